//! The report on an Incident: the page in a real browser, and both views against a real API server.

mod audit;
mod browser;
mod cluster;
mod page;
// Of the response's tests, which use all of it.
#[allow(dead_code)]
#[path = "../response/scene.rs"]
mod scene;
