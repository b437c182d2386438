//! The group's table, a row whenever it changes (as `kubectl get -w` does), with the
//! pods' output in between.

use anyhow::Result;
use kube::Client;
use oaat_tests::node::LogLine;
use oaat_tests::table::Table;
use tokio::sync::broadcast::Receiver;

/// What is on the screen.
pub struct Screen {
    client: Client,
    namespace: &'static str,
    lines: Option<Receiver<LogLine>>,
    shown: Vec<Vec<String>>,
    header: String,
}

impl Screen {
    /// An empty screen.
    pub fn new(client: Client, namespace: &'static str, lines: Option<Receiver<LogLine>>) -> Self {
        Self {
            client,
            namespace,
            lines,
            shown: Vec::new(),
            header: String::new(),
        }
    }

    /// Prints what is new.
    pub async fn update(&mut self) -> Result<()> {
        if let Some(lines) = &mut self.lines {
            while let Ok(line) = lines.try_recv() {
                println!("    {} | {}", line.pod, line.line);
            }
        }
        let table = Table::get(&self.client, self.namespace, "oaatgroups").await?;
        let news = table.news();
        if news == self.shown {
            return Ok(());
        }
        let lines = table.lines();
        if let Some((header, rows)) = lines.split_first() {
            // Columns are as wide as their cells, so the header moves with them.
            if *header != self.header {
                println!("{header}");
                self.header.clone_from(header);
            }
            rows.iter().for_each(|row| println!("{row}"));
        }
        self.shown = news;
        Ok(())
    }
}
