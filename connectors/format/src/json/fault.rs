//! [`Fault`]: why a value does not fit its column.

/// Why a value does not fit; the column's name and the value are added by whoever knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Ends the sentence `column "x": value v …`.
    pub(crate) why: &'static str,
    /// The next step for the user.
    pub(crate) hint: Option<&'static str>,
}

impl Fault {
    /// A fault without a hint.
    pub(crate) const fn new(why: &'static str) -> Self {
        Self { why, hint: None }
    }

    /// A fault with the next step.
    pub(crate) const fn with_hint(why: &'static str, hint: &'static str) -> Self {
        Self { why, hint: Some(hint) }
    }
}
