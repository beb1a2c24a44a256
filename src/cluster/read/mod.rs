//! Reads from the API server that bypass the stores, each with a time limit.

mod access_review;
mod catch_up;
mod identities;
mod owners;
mod reader;

pub(crate) use access_review::{
    AccessRequest, current_user, may_current_user, may_service_account,
};
pub(crate) use catch_up::catch_up;
pub(crate) use identities::read_identities;
pub(crate) use owners::{Owners, kind_of};
pub(crate) use reader::{Reader, read};
