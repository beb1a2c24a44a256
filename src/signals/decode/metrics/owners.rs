//! Owners: the pod with which each accelerator was last seen, so that a shared one is recognised even
//! if each response names only one pod.
//!
//! Used by the reader of accelerator exporters, and by `replay` for samples that name a device. With
//! time-slicing and MPS several pods use a device; an exporter names all of them in one text, or
//! a different one in each. Works with the times of the samples. Bounded; a device that does not fit counts
//! as shared, because its figures could belong to any pod.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::limits;
use crate::model::{ComputeSample, DeviceUse, EventTime, GpuSample};

/// The last owner of each device.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceOwners {
    devices: HashMap<u64, Tenure>,
}

/// The last owner of a device.
#[derive(Clone, Debug)]
struct Tenure {
    owner: Box<str>,
    last: EventTime,
    /// Until when the device counts as shared.
    shared_until: Option<EventTime>,
}

/// How a device is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// No other pod was seen on the device within [`limits::DEVICE_OWNER_KEPT_US`].
    Exclusive,
    /// Several pods were seen on it, or this cannot be determined.
    Shared {
        /// The previous owner. Its earlier samples may be the activity of the current owner.
        before: Option<Box<str>>,
    },
}

/// The key of a device, or of a partition of it.
#[must_use]
pub(crate) fn device_key(identity: &str, part: &str) -> u64 {
    // The same in each process, so that a replay is repeatable. A collision benefits no pod: the
    // names of devices are chosen by the node, and two that collide count as shared.
    let mut hasher = DefaultHasher::new();
    (identity, part).hash(&mut hasher);
    hasher.finish()
}

impl DeviceOwners {
    /// Records that a source named this pod as the owner of a device at this time.
    pub(crate) fn observe(&mut self, device: u64, owner: &str, time: EventTime) -> Ownership {
        let kept_us = limits::DEVICE_OWNER_KEPT_US;
        if !self.devices.contains_key(&device) && self.devices.len() >= limits::DEVICES_MAX {
            self.devices
                .retain(|_, tenure| time.micros_since(tenure.last).abs() <= kept_us);
            if self.devices.len() >= limits::DEVICES_MAX {
                return Ownership::Shared { before: None };
            }
        }
        let tenure = self.devices.entry(device).or_insert_with(|| Tenure {
            owner: owner.into(),
            last: time,
            shared_until: None,
        });
        let is_recent = time.micros_since(tenure.last).abs() <= kept_us;
        let before =
            (*tenure.owner != *owner).then(|| std::mem::replace(&mut tenure.owner, owner.into()));
        tenure.last = tenure.last.max(time);
        match before {
            Some(before) if is_recent => {
                let until = time.plus_micros(kept_us);
                tenure.shared_until = tenure.shared_until.max(Some(until));
                Ownership::Shared {
                    before: Some(before),
                }
            }
            _ if tenure.shared_until.is_some_and(|until| time <= until) => {
                Ownership::Shared { before: None }
            }
            _ => {
                tenure.shared_until = None;
                Ownership::Exclusive
            }
        }
    }

    /// Sets in a sample how its device is used; `owner` is its pod. If the device had another owner recently, returns a
    /// sample that withdraws the earlier samples of that pod. A sample that names no device is left unchanged,
    /// because it cannot show that the pod uses its device alone.
    pub(crate) fn attribute(
        &mut self,
        sample: &mut ComputeSample<'_>,
        owner: &str,
    ) -> Option<ComputeSample<'static>> {
        let time = sample.time;
        let gpu = sample.gpu.as_mut()?;
        let device = gpu.device?;
        let before = match self.observe(device, owner, time) {
            Ownership::Exclusive if gpu.device_use != DeviceUse::Shared => {
                gpu.device_use = DeviceUse::Exclusive;
                return None;
            }
            Ownership::Exclusive => None,
            Ownership::Shared { before } => before,
        };
        gpu.device_use = DeviceUse::Shared;
        let withdrawn = GpuSample {
            device: Some(device),
            device_use: DeviceUse::Shared,
            ..GpuSample::default()
        };
        Some(ComputeSample {
            time,
            pod: before?.into_string().into(),
            cpu: None,
            gpu: Some(withdrawn),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> EventTime {
        EventTime::from_seconds(1_700_000_000 + second, 0)
    }

    fn is_shared(ownership: &Ownership) -> bool {
        matches!(ownership, Ownership::Shared { .. })
    }

    #[test]
    fn one_owner_has_the_device_alone() {
        let mut owners = DeviceOwners::default();
        for second in (0..3_600).step_by(15) {
            assert_eq!(owners.observe(1, "n/a", at(second)), Ownership::Exclusive);
        }
    }

    #[test]
    fn a_second_owner_within_ten_minutes_shares_it_and_the_first_one_is_named() {
        let mut owners = DeviceOwners::default();
        owners.observe(1, "n/a", at(0));
        let expected = Ownership::Shared {
            before: Some("n/a".into()),
        };
        assert_eq!(owners.observe(1, "n/b", at(600)), expected);
        assert!(is_shared(&owners.observe(1, "n/b", at(1_200))));
        assert!(!is_shared(&owners.observe(1, "n/b", at(1_201))));
        assert_eq!(owners.observe(2, "n/b", at(600)), Ownership::Exclusive);
    }

    #[test]
    fn a_device_that_is_assigned_again_later_is_used_by_the_next_pod_alone() {
        let mut owners = DeviceOwners::default();
        owners.observe(1, "n/a", at(0));
        assert_eq!(owners.observe(1, "n/b", at(601)), Ownership::Exclusive);
    }

    #[test]
    fn pods_in_turn_never_have_it_alone_again() {
        let mut owners = DeviceOwners::default();
        owners.observe(1, "n/0", at(0));
        for n in 1..500_i64 {
            let owner = format!("n/{}", n * n % 4);
            let ownership = owners.observe(1, &owner, at(n * 15));
            assert!(is_shared(&ownership), "{n}");
        }
    }

    #[test]
    fn what_does_not_fit_counts_as_shared_until_others_are_silent() {
        let mut owners = DeviceOwners::default();
        let count = u64::try_from(limits::DEVICES_MAX).unwrap();
        for device in 0..count {
            owners.observe(device, "n/a", at(0));
        }
        assert!(is_shared(&owners.observe(count, "n/b", at(1))));
        assert_eq!(owners.devices.len(), limits::DEVICES_MAX);
        assert_eq!(owners.observe(count, "n/b", at(700)), Ownership::Exclusive);
        assert_eq!(owners.devices.len(), 1);
    }
}
