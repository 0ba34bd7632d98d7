//! Plain aligned columns: no frames, so that lines can be cut, sorted and pasted.

use super::colour;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, presets};

/// Most characters of a cell that is not wrapped.
const CELL_MAX: usize = 200;

fn cut(mut cell: String) -> String {
    if let Some((end, _)) = cell.char_indices().nth(CELL_MAX) {
        let kept = cell.char_indices().nth(CELL_MAX - 3).map_or(end, |(kept, _)| kept);
        cell.truncate(kept);
        cell.push_str("...");
    }
    cell
}

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

    /// Adds a row: one cell per header. Where no terminal wraps it, a long cell is cut, or one
    /// would make every row as wide; JSON and plain lines hold all of it.
    pub fn row(&mut self, cells: Vec<String>) {
        match self.0.is_tty() {
            true => self.0.add_row(cells),
            false => self.0.add_row(cells.into_iter().map(cut)),
        };
    }

    /// The lines, each ended by a line break.
    pub fn render(&self) -> String {
        let mut text = self.0.trim_fmt();
        text.push('\n');
        text
    }
}
