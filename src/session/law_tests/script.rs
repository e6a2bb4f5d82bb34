//! [`Script`]: what happens to an engine, as numbers that shrink.

use proptest::prelude::*;

use super::cluster::Layout;
use super::tape::{Numbers, numbers};
use crate::env::faulty_store::StoreFault;

/// What happens to an engine.
#[derive(Debug, Clone)]
pub(super) struct Script {
    /// The first layout.
    pub(super) layout: Layout,
    /// Writes before there is any view.
    pub(super) before: Vec<Numbers>,
    /// The first views.
    pub(super) views: Vec<Numbers>,
    /// What happens then; all views are looked at after each step.
    pub(super) steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Writes at once, those of one table in order.
    Write(Vec<Numbers>),
    /// Writes one after the other, so that many checkpoints pass.
    Burst(Vec<Numbers>),
    /// A view is made over what is there.
    Create(Numbers),
    /// A view is made and given up once so many objects were put meanwhile.
    GiveUp(Numbers, usize),
    /// A view goes, with those that read it.
    Drop(u16),
    /// A sink of some relation.
    Sink(Numbers),
    /// A sink goes.
    DropSink(u16),
    /// Everything is committed.
    Flush,
    /// A pipeline of some relation.
    Pipeline(u16),
    /// A pipeline is fired.
    Fire(u16),
    /// Writes to the table whose rows can fail a view.
    Divide(Numbers),
    /// A row fails a view; or it is mended, if it has failed.
    BreakOrMend,
    /// A source gets messages, which are read while the next step begins.
    Send(Vec<Numbers>),
    /// The engine stops and starts again; its source gets messages right before.
    Restart(Layout, End, Vec<Numbers>),
}

/// How an engine ends.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// By a shutdown.
    Clean,
    /// At once, when nothing is under way.
    Crash,
    /// In the middle of a write, after so many objects of it were put.
    CrashWriting(Numbers, usize),
    /// In a write during which the disk fails, after so many calls.
    DiskFails(Numbers, StoreFault, usize),
    /// While a pipeline is fired, after so many objects were put.
    CrashFiring(u16, usize),
    /// By the fence: the next engine starts over the same store while this one runs.
    TakenOver,
}

/// Steps of a script at most.
const STEPS: usize = 24;

fn layout() -> impl Strategy<Value = Layout> {
    let layout = |(processes, workers)| Layout { processes, workers };
    prop_oneof![4 => (Just(1), 1..4_usize), 2 => (Just(2), 1..3_usize)].prop_map(layout)
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Clean),
        2 => Just(End::Crash),
        2 => (numbers(), 0..4_usize).prop_map(|(write, puts)| End::CrashWriting(write, puts)),
        4 => (numbers(), fault(), 0..6_usize)
            .prop_map(|(write, fault, calls)| End::DiskFails(write, fault, calls)),
        2 => (any::<u16>(), 0..9_usize).prop_map(|(number, puts)| End::CrashFiring(number, puts)),
        2 => Just(End::TakenOver),
    ]
}

fn fault() -> impl Strategy<Value = StoreFault> {
    prop_oneof![Just(StoreFault::Full), Just(StoreFault::Once), Just(StoreFault::Gone)]
}

fn writes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Numbers>> {
    prop::collection::vec(numbers(), count)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => writes(1..5).prop_map(Step::Write),
        1 => writes(12..18).prop_map(Step::Burst),
        2 => numbers().prop_map(Step::Create),
        2 => (numbers(), 0..9_usize).prop_map(|(view, puts)| Step::GiveUp(view, puts)),
        1 => any::<u16>().prop_map(Step::Drop),
        4 => numbers().prop_map(Step::Sink),
        1 => any::<u16>().prop_map(Step::DropSink),
        3 => Just(Step::Flush),
        1 => any::<u16>().prop_map(Step::Pipeline),
        2 => any::<u16>().prop_map(Step::Fire),
        3 => numbers().prop_map(Step::Divide),
        2 => Just(Step::BreakOrMend),
        5 => writes(1..9).prop_map(Step::Send),
        5 => (layout(), end(), writes(0..4))
            .prop_map(|(layout, end, sent)| Step::Restart(layout, end, sent)),
    ]
}

/// Random scripts.
pub(super) fn script() -> impl Strategy<Value = Script> {
    let steps = prop::collection::vec(step(), 0..STEPS);
    let parts = (layout(), writes(0..9), prop::collection::vec(numbers(), 1..6), steps);
    parts.prop_map(|(layout, before, views, steps)| Script { layout, before, views, steps })
}
