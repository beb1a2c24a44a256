//! `record!`: structs that are read from a JSON object. Used by the decoders; the code it expands
//! to uses a [`Cursor`](super::Cursor).

/// A struct with one field per key of an object. Keys without a field are skipped; a duplicate of a key with a
/// field makes the line malformed. In tests the struct can also be read by serde,
/// which is the reference for the result.
///
/// The fields are in the order in which producers write them, with `Skipped` ones in between: then each
/// key is recognised by one comparison. From the first key on that matches no later field,
/// keys are looked up, so every other order is read as well, only slower.
macro_rules! record {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $kind:ty = $key:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        #[cfg_attr(
            test,
            derive(serde::Deserialize),
            serde(default, bound(deserialize = "'de: 'a"))
        )]
        $visibility struct $name<'a> {
            $(
                $(#[$field_meta])*
                #[cfg_attr(test, serde(rename = $key))]
                $visibility $field: $kind,
            )*
        }

        impl<'a> $crate::signals::decode::json::Read<'a> for $name<'a> {
            fn read(
                &mut self,
                cursor: &mut $crate::signals::decode::json::Cursor<'a>,
            ) -> Result<(), $crate::signals::decode::Malformed> {
                /// Lengths of the keys: the compiler turns them into a jump table, and then compares
                /// only the few keys of that length.
                #[allow(non_upper_case_globals)]
                mod length {
                    $(pub(super) const $field: usize = $key.len();)*
                }
                #[derive(Default)]
                #[allow(clippy::struct_excessive_bools)] // one for each key
                struct Seen {
                    $($field: bool,)*
                }
                let mut seen = Seen::default();
                if !cursor.open()? {
                    return Ok(());
                }
                let mut head = cursor.head();
                $(
                    if cursor.take_key(head, const {
                        &$crate::signals::decode::json::Key::new(concat!('"', $key, "\":"))
                    }) {
                        seen.$field = true;
                        $crate::signals::decode::json::Read::read(&mut self.$field, cursor)?;
                        if !cursor.next_member()? {
                            return Ok(());
                        }
                        head = cursor.head();
                    }
                )*
                let _ = head;
                cursor.members(|cursor, key| match (key.len(), key) {
                    $((length::$field, $key) => {
                        if std::mem::replace(&mut seen.$field, true) {
                            return Err($crate::signals::decode::Malformed::DuplicateKey);
                        }
                        cursor.colon()?;
                        $crate::signals::decode::json::Read::read(&mut self.$field, cursor)
                    })*
                    _ => {
                        cursor.colon()?;
                        cursor.skip()
                    }
                })
            }
        }
    };
}
pub(in crate::signals::decode) use record;
