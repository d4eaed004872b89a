//! Aligned columns for people.

use std::fmt::Write;

/// Rows below a heading; each column as wide as its widest cell.
pub(super) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// `cells` as many as the heading has. Control characters are taken out: they come from devices.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.heading.len());
        let clean = |cell: String| cell.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    pub(super) fn render(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        let heading = self.heading.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:<width$}  ").expect("a string takes everything");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(move |row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        self.heading.iter().enumerate().map(|(column, name)| name.len().max(width(column))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["DEVICE", "KIND"]);
        table.row(["å/lamp-12".to_owned(), "luminaire".to_owned()]);
        table.row(["b".to_owned(), "e\u{1b}[2J".to_owned()]);
        assert_eq!(table.render(), "DEVICE     KIND\nå/lamp-12  luminaire\nb          e [2J\n");
    }
}
