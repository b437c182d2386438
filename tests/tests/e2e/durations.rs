//! Durations as users write them: all that the schema accepts are parsed.

use crate::bad_input::{message, oaat_group};
use crate::fixture::Fixture;
use anyhow::Result;
use serde_json::json;

#[tokio::test]
async fn durations_accepted_by_the_schema_are_parsed() -> Result<()> {
    let fixture = Fixture::new("good-durations").await?;
    let units = "ms msec msecs millis s sec secs second seconds m min mins minute minutes h hr \
                 hrs hour hours d day days w wk wks week weeks M month months y yr yrs year years";
    let times = units.split_whitespace().map(|unit| format!("2{unit}"));
    let others = ["1h 30m", "1h30m", "2 days", "1day 12h", "90s", "500ms"];
    let mut misunderstood = Vec::new();
    for time in times.chain(others.map(str::to_owned)) {
        let group = json!({"oaatItems": [], "frequency": time});
        if fixture.apply(&oaat_group("group", &group)).await.is_err() {
            continue;
        }
        let group = fixture
            .until("the group is reconciled", |g| {
                g["spec"]["frequency"] == *time
                    && g["status"]["observedGeneration"] == g["metadata"]["generation"]
            })
            .await?;
        if group["status"]["state"] == "Invalid" {
            misunderstood.push(message(&group).to_owned());
        }
    }
    assert!(misunderstood.is_empty(), "{misunderstood:#?}");
    Ok(())
}
