//! What nodes said and nobody took: counted by cause, and told when a count doubles, so that a node that talks nonsense cannot
//! fill the log.

/// Why it was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too large, no JSON, another schema, a status that is none.
    NotUnderstood,
    /// Of an agent process that ended, older than what was taken already, or about a pod that is no longer there.
    OutOfDate,
    /// About something of another node.
    NotItsOwn,
}

impl Cause {
    /// For the log.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Cause::NotUnderstood => "a message was not understood and dropped",
            Cause::OutOfDate => "what a node said was out of date and dropped",
            Cause::NotItsOwn => "what a node said was not this node's and dropped",
        }
    }
}

/// The counts of one master.
#[derive(Debug, Default)]
pub struct Drops {
    counts: [u64; 3],
}

impl Drops {
    /// Counts one; the count when it is worth a line in the log.
    pub fn count(&mut self, cause: Cause) -> Option<u64> {
        let [not_understood, out_of_date, not_its_own] = &mut self.counts;
        let count = match cause {
            Cause::NotUnderstood => not_understood,
            Cause::OutOfDate => out_of_date,
            Cause::NotItsOwn => not_its_own,
        };
        *count += 1;
        count.is_power_of_two().then_some(*count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_at_first_and_whenever_it_doubles() {
        let mut drops = Drops::default();
        let told: Vec<u64> = (0..10).filter_map(|_| drops.count(Cause::NotUnderstood)).collect();
        assert_eq!(told, [1, 2, 4, 8]);
        assert_eq!(drops.count(Cause::OutOfDate), Some(1));
    }
}
