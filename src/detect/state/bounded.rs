//! Decoding of saved state within its bounds.
//!
//! Named in `#[serde(deserialize_with = ...)]` of the state's types. A saved file is untrusted input: a list that is
//! longer than its bound is an error, before memory is allocated for it. Types of the state derive `Serialize` and
//! `Deserialize`, so that a new field is saved without further code; where two lists have the same order, such as keys
//! and entries, one list of pairs is written and both are built from it.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list of at most `MAX` entries.
pub(in crate::detect) fn list<'de, D, T, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(Entries::<T, MAX>(PhantomData))
}

/// A queue of at most `MAX` entries.
pub(in crate::detect) fn queue<'de, D, T, const MAX: usize>(
    deserializer: D,
) -> Result<VecDeque<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    list::<D, T, MAX>(deserializer).map(VecDeque::from)
}

/// A count or an index of at most `MAX`.
pub(in crate::detect) fn count<'de, D, const MAX: usize>(deserializer: D) -> Result<usize, D::Error>
where
    D: Deserializer<'de>,
{
    let count = usize::deserialize(deserializer)?;
    if count > MAX {
        return Err(D::Error::invalid_length(count, &"a count within its bound"));
    }
    Ok(count)
}

struct Entries<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Entries<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let count = entries.size_hint().unwrap_or(0);
        if count > MAX {
            return Err(A::Error::invalid_length(count, &self));
        }
        let mut list = Vec::with_capacity(count);
        while let Some(entry) = entries.next_element()? {
            if list.len() >= MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(entry);
        }
        Ok(list)
    }
}

/// A list that is written from an iterator.
pub(in crate::detect) struct Sequence<I>(pub(in crate::detect) I);

impl<I> Serialize for Sequence<I>
where
    I: Iterator + Clone,
    I::Item: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

/// A byte string.
pub(in crate::detect) struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}
