//! Text in columns.

use std::{borrow::Cow, fmt::Write};

use crate::foreign;

/// Sets rows below their heads, each column as wide as its longest cell; two blanks between. No
/// cell acts on another.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[Cow<'_, str>; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| foreign::whole(cell)))
        .collect();
    let mut widths = heads.map(|head| head.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    let first = heads.map(Cow::Borrowed);
    for row in std::iter::once(&first).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_needed() {
        let rows = [
            ["long cell".to_owned(), "1".to_owned()],
            ["x".to_owned(), "22".to_owned()],
        ];
        let text = table(["A", "B"], &rows);
        assert_eq!(text, "A          B\nlong cell  1\nx          22\n");
    }
}
