//! Reads from the API server that bypass the stores, each with a time limit.

mod access_review;
mod owners;

pub use access_review::{Deed, may_account, may_i, who_am_i};
pub use owners::{Chain, OwnerError, Owners, kind_of};
