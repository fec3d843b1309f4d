//! Hands: the whole visit. Looks, mends what was asked for, looks again, and tells what was done and how it is undone.

use super::disk::{ActError, Done, Tree};
use super::{Finding, look, undo};

/// A check after the visit.
#[derive(Debug)]
pub struct Visited {
    /// How it is now.
    pub finding: Finding,
    /// What was done about it.
    pub done: Vec<Done>,
    /// What stopped it half way.
    pub failed: Option<ActError>,
    /// Commands that undo what was done, the last first.
    pub undo: Vec<String>,
}

/// Mends what is wrong and can be mended: all of it, or what is named.
pub fn mend(tree: &Tree, named: &[String]) -> Vec<Visited> {
    let before = look(tree);
    let mended: Vec<_> = before.iter().map(|finding| carry_out(tree, finding, named)).collect();
    let after = look(tree).into_iter().zip(mended);
    after.map(|(finding, (done, undo, failed))| Visited { finding, done, failed, undo }).collect()
}

fn carry_out(tree: &Tree, finding: &Finding, named: &[String]) -> (Vec<Done>, Vec<String>, Option<ActError>) {
    let (mut done, mut undone) = (Vec::new(), Vec::new());
    for act in finding.acts(named) {
        // Before the act: then it is known whether there was a file.
        let back = undo(tree, std::slice::from_ref(act));
        match tree.act(act) {
            Ok(Done::Nothing) => {}
            Ok(what) => {
                done.push(what);
                undone.extend((!back.is_empty()).then_some(back));
            }
            Err(error) => {
                undone.reverse();
                return (done, undone, Some(error));
            }
        }
    }
    undone.reverse();
    (done, undone, None)
}
