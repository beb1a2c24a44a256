//! The map of targets: a grid of hosts or blocks by services. Geometry only.

use crate::model::clip;
use crate::report::story::Targets;

/// About the width of a letter of a label.
const LETTER: f64 = 7.0;
const CELL: (f64, f64) = (58.0, 30.0);
const TOP: f64 = 30.0;
/// Letters of a row's label: an IPv6 address has up to 39.
const LABEL_BYTES_MAX: usize = 39;

pub(super) struct Map {
    pub width: f64,
    pub height: f64,
    pub columns: Vec<(f64, String)>,
    pub rows: Vec<Row>,
    pub cells: Vec<Cell>,
    pub description: String,
}

pub(super) struct Row {
    pub y: f64,
    pub label: String,
    pub full: String,
}

pub(super) struct Cell {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub text: String,
    pub tip: String,
    pub all_failed: bool,
    pub none_failed: bool,
}

impl Map {
    /// `None` if there are no targets.
    #[allow(clippy::cast_precision_loss)] // at most 12 rows and columns
    pub(super) fn new(targets: &Targets) -> Option<Self> {
        if targets.rows.is_empty() {
            return None;
        }
        let longest = targets
            .rows
            .iter()
            .map(|row| row.place.len().min(LABEL_BYTES_MAX))
            .max();
        let label_width = longest.unwrap_or_default() as f64 * LETTER + 16.0;
        let x = |column: usize| label_width + column as f64 * CELL.0;
        let y = |row: usize| TOP + row as f64 * CELL.1;
        let mut cells = Vec::new();
        let mut rows = Vec::new();
        for (row, target) in targets.rows.iter().enumerate() {
            let full = target.name.as_ref().map_or_else(
                || target.place.clone(),
                |name| format!("{} ({name})", target.place),
            );
            for ((column, service), (failed, all)) in
                targets.services.iter().enumerate().zip(&target.counts)
            {
                if *all == 0 {
                    continue;
                }
                cells.push(Cell {
                    x: x(column) + 2.0,
                    y: y(row) + 2.0,
                    width: CELL.0 - 4.0,
                    height: CELL.1 - 4.0,
                    text: sign(*failed, *all),
                    tip: format!("{full} {service}: {all} contacts, {failed} failed"),
                    all_failed: failed == all,
                    none_failed: *failed == 0,
                });
            }
            rows.push(Row {
                y: y(row) + CELL.1 / 2.0 + 4.0,
                label: clip(&target.place, LABEL_BYTES_MAX).to_owned(),
                full,
            });
        }
        let what = if targets.row_is == "block" {
            "blocks of addresses"
        } else {
            "hosts"
        };
        Some(Self {
            width: x(targets.services.len()) + 8.0,
            height: y(targets.rows.len()) + 6.0,
            columns: targets
                .services
                .iter()
                .enumerate()
                .map(|(column, service)| (x(column) + CELL.0 / 2.0, clip(service, 10).to_owned()))
                .collect(),
            rows,
            cells,
            description: format!(
                "{} {what} by {} services. A cell counts the example contacts: ✕ where all failed, ✓ where none did, else failed of all.",
                targets.rows.len(),
                targets.services.len()
            ),
        })
    }
}

fn sign(failed: usize, all: usize) -> String {
    match (failed, all) {
        (0, 1) => "✓".to_owned(),
        (0, all) => format!("✓ {all}"),
        (1, 1) => "✕".to_owned(),
        (failed, all) if failed == all => format!("✕ {all}"),
        (failed, all) => format!("{failed}/{all}"),
    }
}
