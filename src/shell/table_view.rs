//! Rows as a table that fits the terminal.

use std::io::{self, Write};

use comfy_table::{
    Cell, CellAlignment, ContentArrangement, Table as Grid, TableComponent, presets,
};

use super::Table;

/// How rows are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A row a line, wrapped to `width` columns if one is known.
    Lines {
        /// Columns of the terminal.
        width: Option<u16>,
    },
    /// A value a line: `\x`.
    Expanded,
}

/// Writes rows and their number.
///
/// # Errors
/// The writer's.
pub fn write_table(out: &mut dyn Write, table: &Table, layout: Layout) -> io::Result<()> {
    match layout {
        Layout::Lines { width } => write_lines(out, table, width)?,
        Layout::Expanded => write_expanded(out, table)?,
    }
    let count = table.rows.len();
    writeln!(out, "({count} row{})", if count == 1 { "" } else { "s" })
}

fn write_lines(out: &mut dyn Write, table: &Table, width: Option<u16>) -> io::Result<()> {
    if table.columns.is_empty() {
        return Ok(());
    }
    let mut grid = Grid::new();
    grid.load_preset(presets::NOTHING)
        .set_style(TableComponent::HeaderLines, '-')
        .set_style(TableComponent::MiddleHeaderIntersections, '+')
        .set_style(TableComponent::VerticalLines, '|')
        .set_header(&table.columns);
    match width {
        Some(width) => {
            grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        None => {
            grid.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    let numeric: Vec<bool> = (0..table.columns.len()).map(|at| is_numeric(table, at)).collect();
    for row in &table.rows {
        grid.add_row(row.iter().zip(&numeric).map(|(value, numeric)| {
            let cell = Cell::new(value.as_deref().unwrap_or(""));
            if *numeric { cell.set_alignment(CellAlignment::Right) } else { cell }
        }));
    }
    for line in grid.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Numbers stand on the right. The wire's simple protocol does not tell types, so values do.
fn is_numeric(table: &Table, column: usize) -> bool {
    let mut values = table.rows.iter().filter_map(|row| row[column].as_deref()).peekable();
    values.peek().is_some() && values.all(|value| value.parse::<f64>().is_ok())
}

fn write_expanded(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    let width = table.columns.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (number, row) in table.rows.iter().enumerate() {
        writeln!(out, "-[ row {} ]-", number + 1)?;
        for (name, value) in table.columns.iter().zip(row) {
            let line = format!("{name:width$} | {}", value.as_deref().unwrap_or(""));
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let some = |text: &str| Some(text.to_string());
        Table {
            columns: vec!["id".into(), "name".into()],
            rows: vec![vec![some("1"), some("ada")], vec![some("20"), None]],
        }
    }

    fn written(table: &Table, layout: Layout) -> String {
        let mut out = Vec::new();
        write_table(&mut out, table, layout).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_align_numbers_to_the_right() {
        let text = written(&sample(), Layout::Lines { width: None });
        assert_eq!(text, " id | name\n----+------\n  1 | ada\n 20 |\n(2 rows)\n");
    }

    #[test]
    fn lines_fit_the_width() {
        let mut table = sample();
        table.rows[0][1] = Some("a long text that does not fit".into());
        let text = written(&table, Layout::Lines { width: Some(20) });
        assert!(text.lines().all(|line| line.chars().count() <= 20), "{text}");
    }

    #[test]
    fn expanded_shows_a_value_a_line() {
        let text = written(&sample(), Layout::Expanded);
        let rows = "-[ row 1 ]-\nid   | 1\nname | ada\n-[ row 2 ]-\nid   | 20\nname |\n(2 rows)\n";
        assert_eq!(text, rows);
    }
}
