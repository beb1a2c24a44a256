//! The subject of a signal: a pod, and the run that the pod belongs to.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits;

/// A pod's identity for its whole life: its UID in a cluster, its address in `replay`.
///
/// Cheap to clone; never reused for another pod, unlike an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey(Arc<str>);

/// A run's identity: `namespace/uid` in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunKey(Arc<str>);

/// The pod and run that a signal is attributed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The pod.
    pub pod: PodKey,
    /// The run, if the pod belongs to one.
    pub run: Option<RunKey>,
}

macro_rules! key {
    ($name:ident) => {
        impl $name {
            /// The key as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Box::<str>::deserialize(deserializer)?;
                if text.len() > limits::KEY_BYTES_MAX {
                    return Err(serde::de::Error::invalid_length(
                        text.len(),
                        &"a shorter key",
                    ));
                }
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

key!(PodKey);
key!(RunKey);
