//! Reports: the results of a replay as JSON for programs, as text and Markdown for people.
//!
//! Called by `cli::replay`. `sentences` has what the forms share.

mod json;
mod markdown;
mod sentences;
mod text;

#[cfg(test)]
mod tests;

pub use json::json;
pub(crate) use markdown::markdown;
pub(crate) use text::text;
