//! The output of the demo: a row of the group's table whenever it changes, as `kubectl get -w`, and
//! the output of the pods.

use anyhow::Result;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use oaat_tests::node::LogLine;
use oaat_tests::table::Table;
use tokio::sync::broadcast::Receiver;

/// The state of the output.
pub struct Screen {
    client: Client,
    namespace: &'static str,
    lines: Option<Receiver<LogLine>>,
    shown: Vec<Vec<String>>,
    /// The number of the latest run whose end was printed.
    ended: i64,
    header: String,
}

impl Screen {
    /// Creates an empty output.
    pub fn new(client: Client, namespace: &'static str, lines: Option<Receiver<LogLine>>) -> Self {
        Self {
            client,
            namespace,
            lines,
            shown: Vec::new(),
            ended: 0,
            header: String::new(),
        }
    }

    /// Prints all changes.
    pub async fn update(&mut self) -> Result<()> {
        if let Some(lines) = &mut self.lines {
            while let Ok(line) = lines.try_recv() {
                println!("    {} | {}", line.pod, line.line);
            }
        }
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("kawaja.net", "v1", "OaatGroup"));
        let groups: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), self.namespace, &kind);
        for group in groups.list(&ListParams::default()).await? {
            let history = group.data["status"]["history"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for run in history.iter().rev() {
                let number = run["run"].as_i64().unwrap_or(0);
                if number > self.ended {
                    self.ended = number;
                    let text = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
                    let cause = match text("message") {
                        message if message.is_empty() => text("reason"),
                        message => message,
                    };
                    println!(
                        "    run {number} of {} {}: {cause}",
                        text("item"),
                        text("result").to_lowercase()
                    );
                }
            }
        }
        let table = Table::get(&self.client, self.namespace, "oaatgroups").await?;
        let cells = table.news();
        if cells == self.shown {
            return Ok(());
        }
        let lines = table.lines();
        if let Some((header, rows)) = lines.split_first() {
            // The width of a column depends on its cells, so the header may change.
            if *header != self.header {
                println!("{header}");
                self.header.clone_from(header);
            }
            rows.iter().for_each(|row| println!("{row}"));
        }
        self.shown = cells;
        Ok(())
    }
}
