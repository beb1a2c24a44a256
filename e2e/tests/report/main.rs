//! The report on an Incident: the page in a real browser, and both views against a real API server.

// The whole file is a test; a field that is missing in JSON is null, and a test fails where it is.
#![allow(clippy::indexing_slicing)]

mod audit;
mod browser;
mod cluster;
mod page;
