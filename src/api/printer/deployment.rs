//! (skeleton)
use super::{Column, NAME, Printer, age_of};

/// The columns.
pub static PRINTER: Printer =
    Printer { columns: &[NAME, Column::text("Age")], cells: |object, now| vec![object.name().into(), age_of(object, now)] };
