mod clock;
mod schedule;
mod pacer;
mod latency;
mod process;
mod ledger;
fn main() {}
