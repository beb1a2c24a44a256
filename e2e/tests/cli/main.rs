//! The command line as people use it, against a real API server.

mod called;
mod decide;
mod status;
mod whole;

// Only some of what the tests of the response stand on is used here.
#[allow(dead_code)]
#[path = "../response/scene.rs"]
mod scene;
