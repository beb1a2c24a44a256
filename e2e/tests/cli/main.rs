//! The command line as people use it, against a real API server.

mod called;
mod decide;
mod status;
mod whole;
