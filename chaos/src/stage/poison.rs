//! A setting of the nodes that makes their code for a device panic on one number: `drill.poison_number`.
//!
//! The launcher sets it; a node that was started otherwise has none, and nothing can poison it.
use super::HostUnable;

const VARIABLE: &str = "KVARTER_NODE__DRILL__POISON_NUMBER";

/// The number that nodes on a stage fail on.
#[derive(Clone, Copy, Debug)]
pub struct Poison;

impl Poison {
    /// A temperature that no load and no simulated building reports.
    pub const NUMBER: f64 = 33.312_345;

    /// What a launcher puts into a node's environment.
    pub(super) fn setting() -> String {
        format!("{VARIABLE}={}", Self::NUMBER)
    }

    /// Refuses when the process `pid` of `node` was not told of the number.
    pub fn check(node: u64, pid: i32) -> Result<(), HostUnable> {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let is_told = environment.split(|byte| *byte == 0).any(|variable| variable == Self::setting().as_bytes());
        if is_told { Ok(()) } else { Err(HostUnable::NotStaged { node, what: "`drill.poison_number`" }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_not_told_of_the_poison_is_recognised() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Poison::check(1, pid), Err(HostUnable::NotStaged { node: 1, what: "`drill.poison_number`" }));
    }

    #[test]
    fn the_setting_is_a_number_as_nodes_read_it() {
        let (name, number) = Poison::setting().split_once('=').map(|(a, b)| (a.to_owned(), b.parse())).unwrap();
        assert_eq!((name.as_str(), number), (VARIABLE, Ok(Poison::NUMBER)));
    }
}
