//! [`Tally`]: what the scripts have met, so that a law over nothing is found.

use std::collections::BTreeMap;

use super::cluster::Layout;

/// What the scripts have met.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Views that were made.
    pub(super) created: usize,
    /// Views that were refused, by the reason.
    pub(super) refused: BTreeMap<String, usize>,
    /// Views that read a view.
    pub(super) on_views: usize,
    /// Views that were given up before they were made.
    pub(super) given_up: usize,
    /// Comparisons of a view with its query.
    pub(super) compared: usize,
    /// Those with rows in them.
    pub(super) with_rows: usize,
    /// Comparisons of the table that a source feeds with what was sent, with rows in it.
    pub(super) flushed: usize,
    /// Restarts by clean end and by crash.
    pub(super) restarts: (usize, usize),
    /// Sinks that were made; comparisons of their targets with their relations; those with rows.
    pub(super) sinks: usize,
    pub(super) sinks_compared: usize,
    pub(super) sinks_with_rows: usize,
    /// Pipelines that were made; firings with rows; crashes during one, or right after it.
    pub(super) pipelines: usize,
    pub(super) fired: usize,
    pub(super) crashed_firing: usize,
    /// Times that a row has failed a view, and that it was mended.
    pub(super) broken: usize,
    pub(super) mended: usize,
    /// Engines whose store a newer one has taken over.
    pub(super) taken_over: usize,
    /// Writes on a failing disk that were acknowledged, and that were not.
    pub(super) on_failing_disk: (usize, usize),
    /// Starts by layout.
    pub(super) layouts: BTreeMap<Layout, usize>,
}

impl Tally {
    /// Counts a write while the disk fails.
    pub(super) fn count_on_failing_disk(&mut self, is_acknowledged: bool) {
        let (acknowledged, refused) = &mut self.on_failing_disk;
        *if is_acknowledged { acknowledged } else { refused } += 1;
    }

    /// Fails if the scripts were too poor to say anything.
    pub(super) fn check(&self) {
        let refused: usize = self.refused.values().sum();
        assert!(self.created >= 9 * refused, "most views were not to be refused: {self:?}");
        assert!(3 * self.with_rows > self.compared, "too many views were empty: {self:?}");
        assert!(self.on_views > 0, "no view read a view: {self:?}");
        assert!(self.given_up > 0, "no view was given up: {self:?}");
        assert!(self.flushed > 0, "no message was read: {self:?}");
        assert!(self.restarts.0 > 0 && self.restarts.1 > 0, "nothing restarted: {self:?}");
        assert!(3 * self.sinks_with_rows > self.sinks_compared, "targets were empty: {self:?}");
        assert!(self.sinks > 0 && self.sinks_with_rows > 0, "no sink: {self:?}");
        assert!(self.fired > 0 && self.crashed_firing > 0, "no pipeline was fired: {self:?}");
        assert!(self.mended > 0 && self.taken_over > 0, "nothing failed: {self:?}");
        let (acknowledged, refused) = self.on_failing_disk;
        assert!(acknowledged > 0 && refused > 0, "no disk failed where it matters: {self:?}");
        for (processes, workers) in [(1, 1), (1, 2), (1, 3), (2, 1)] {
            let layout = Layout { processes, workers };
            assert!(self.layouts.contains_key(&layout), "{layout} did not run: {self:?}");
        }
    }
}
