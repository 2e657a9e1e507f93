//! Test doubles: organisations that certify, and homeservers without a network.

mod device;
mod device_log;
pub(crate) mod loopback;
mod network;

pub(crate) use device::{TestDevice, settle};
pub(crate) use device_log::{Log, approved};
pub(crate) use network::Network;
pub(crate) use room_rules::testing::Organisation;
