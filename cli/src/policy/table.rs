//! Tables for the terminal.

use console::{Alignment, measure_text_width, pad_str};

/// Formats rows as a table: the first column is aligned left, the others right.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| measure_text_width(&row[column]));
        cells.max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| {
            let alignment = match column {
                0 => Alignment::Left,
                _ => Alignment::Right,
            };
            pad_str(cell, width, alignment, None)
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn aligned_pads_the_first_column_left_and_the_others_right() {
        let rows = [["", "µs"], ["ä", "1"], ["日本", "1000"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            super::aligned(&rows),
            "        µs\nä        1\n日本  1000\n"
        );
    }
}
