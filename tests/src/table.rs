//! Objects as `kubectl get` prints them: the API server renders the cells.

use anyhow::{Context, Result};
use kube::Client;
use serde_json::Value;

/// The default columns for all objects of a resource in a namespace.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The names of the columns, and whether each shows an age.
    pub columns: Vec<(String, bool)>,
    /// The cells by row.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Requests the table from the API server.
    ///
    /// # Errors
    /// Returns an error if the response is not a table.
    pub async fn get(client: &Client, namespace: &str, resource: &str) -> Result<Self> {
        let path = format!("/apis/kawaja.net/v1/namespaces/{namespace}/{resource}");
        let request = http::Request::get(path)
            .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())?;
        let table: Value = serde_json::from_str(&client.request_text(request).await?)?;
        let definitions = table["columnDefinitions"]
            .as_array()
            .context("the response is not a table")?;
        let shown: Vec<usize> = (0..definitions.len())
            .filter(|i| definitions[*i]["priority"] == 0)
            .collect();
        let columns = shown
            .iter()
            .map(|i| {
                let name = definitions[*i]["name"].as_str().unwrap_or_default();
                (name.to_uppercase(), definitions[*i]["type"] == "date")
            })
            .collect();
        let cell = |value: &Value| match value {
            Value::String(text) => text.clone(),
            // As kubectl prints it.
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let row = |row: &Value| shown.iter().map(|i| cell(&row["cells"][*i])).collect();
        let rows = table["rows"]
            .as_array()
            .into_iter()
            .flatten()
            .map(row)
            .collect();
        Ok(Self { columns, rows })
    }

    /// Returns the cells, except for ages.
    pub fn news(&self) -> Vec<Vec<String>> {
        let keep = |row: &Vec<String>| {
            let cells = row.iter().zip(&self.columns).filter(|(_, (_, age))| !age);
            cells.map(|(cell, _)| cell.clone()).collect()
        };
        self.rows.iter().map(keep).collect()
    }

    /// Returns the header and the rows as aligned lines.
    pub fn lines(&self) -> Vec<String> {
        let header: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let all: Vec<&Vec<String>> = std::iter::once(&header).chain(&self.rows).collect();
        let width = |i: usize| {
            all.iter()
                .filter_map(|row| row.get(i))
                .map(|c| c.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..header.len()).map(|i| width(i).unwrap_or(0)).collect();
        all.iter()
            .map(|row| {
                let cells = row
                    .iter()
                    .zip(&widths)
                    .map(|(cell, width)| format!("{cell:width$}"));
                cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
            })
            .collect()
    }
}
