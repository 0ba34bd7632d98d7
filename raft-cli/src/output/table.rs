//! Plain aligned columns: no frames, so that lines can be cut, sorted and pasted.

use super::colour;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, presets};

/// Columns under a header. Wrapped to the terminal's width if there is one.
pub struct Table(comfy_table::Table);

impl Table {
    /// An empty table; a header that begins with `>` makes its column right-aligned.
    pub fn new(headers: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        let coloured = colour::results();
        if coloured {
            table.enforce_styling();
        }
        table.set_header(headers.iter().map(|header| {
            let cell = Cell::new(header.trim_start_matches('>'));
            if coloured { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        for (column, header) in table.column_iter_mut().zip(headers) {
            column.set_padding((0, 2));
            if header.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Adds a row: one cell per header.
    pub fn row(&mut self, cells: Vec<String>) {
        self.0.add_row(cells);
    }

    /// The lines, each ended by a line break.
    pub fn render(&self) -> String {
        let mut text = self.0.trim_fmt();
        text.push('\n');
        text
    }
}
