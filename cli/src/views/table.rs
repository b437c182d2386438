//! Tables for the terminal, in the style of kubectl.

use comfy_table::{Table, presets};

/// Formats rows as a table without borders. Each row has a cell for each column.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    table.add_rows(rows);
    let last = header.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 3 }));
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_aligned_by_their_display_width() {
        let rows = [["ü", "1"], ["日本", "2"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            super::table(&["A", "COUNT"], rows.to_vec()),
            "A      COUNT\nü      1\n日本   2\n"
        );
        assert_eq!(super::table(&["A", "B"], Vec::new()), "A   B\n");
    }
}
