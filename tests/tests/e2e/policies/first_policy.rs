//! Follows docs/first-policy.md with kubectl, as a new user does.

use crate::fixture::{Fixture, condition};
use anyhow::{Context, Result, bail, ensure};
use oaat_tests::console::{self, Documented, Marker};

/// The name of the test below, which the page names above its console blocks.
const TEST: &str = "first_policy_acts_and_the_next_one_is_judged_before_it_acts";

impl Fixture {
    /// Runs a documented command, and compares its output with the documentation.
    async fn run_documented(&self, command: &Documented) -> Result<()> {
        let output = self.type_in(&command.text).await?;
        let output = output.replace(&self.namespace, "default");
        // Shown if the test fails.
        println!("$ {}\n{output}", command.text);
        for line in &command.output {
            if let Some(missing) = console::missing_word(line, &output) {
                bail!("{} does not print {missing:?}:\n{output}", command.text);
            }
        }
        Ok(())
    }
}

/// A built-in policy decides, and then an expression. A wrong expression is rejected with its position.
/// Another expression runs as a shadow, shows where it differs, and is promoted.
#[tokio::test]
async fn first_policy_acts_and_the_next_one_is_judged_before_it_acts() -> Result<()> {
    let fixture = Fixture::new("first-policy").await?;
    let is_of_test = |block: &console::Block| block.marker == Some(Marker::RunBy(TEST.to_owned()));
    let blocks = console::blocks()?.into_iter().filter(is_of_test);
    let commands: Vec<_> = blocks.flat_map(|block| block.commands()).collect();
    let (delete, commands) = commands.split_last().context("no commands")?;
    ensure!(commands.len() >= 14, "{commands:#?}");
    for command in commands {
        fixture.run_documented(command).await?;
    }
    // The promoted expression decides, and no shadow is left.
    fixture
        .until_object("OaatGroup", "reports", "the shadow is promoted", |group| {
            let eligible = group["spec"]["policy"]["settings"]["eligible"].as_str();
            group["status"]["policy"]["source"] == "expression"
                && eligible.is_some_and(|expression| expression.contains("weekly"))
                && condition(group, "PolicyReady").0 == "True"
                && condition(group, "ShadowAgrees").0.is_empty()
        })
        .await?;
    ensure!(delete.text.starts_with("kubectl delete"), "{delete:?}");
    fixture.run_documented(delete).await
}
