//! [`Fault`]: why a value does not fit its column.

/// Why a value does not fit; the column's name and the value are added by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Ends the sentence `column "x": value v …`.
    pub(crate) why: &'static str,
    /// The next step for the user.
    pub(crate) hint: Option<&'static str>,
    /// On which side of the column's range the value lies, if that is the fault.
    pub(crate) beyond: Option<Beyond>,
}

/// The side of a column's range on which a value lies that the column cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    Low,
    High,
    /// On neither: not a number.
    Neither,
}

impl Fault {
    /// The value is below the column's range.
    pub(crate) const LOW: Self = Self::out_of_range(Beyond::Low);
    /// The value is above the column's range.
    pub(crate) const HIGH: Self = Self::out_of_range(Beyond::High);

    /// A fault without a hint.
    pub(crate) const fn new(why: &'static str) -> Self {
        Self { why, hint: None, beyond: None }
    }

    /// A fault with the next step.
    pub(crate) const fn with_hint(why: &'static str, hint: &'static str) -> Self {
        Self { why, hint: Some(hint), beyond: None }
    }

    /// A value that the source can hold and the column cannot.
    pub(crate) const fn out_of_range(beyond: Beyond) -> Self {
        let hint = "out.of.range.handling.mode = 'null' or 'saturate' keeps such rows";
        Self { why: "is out of range", hint: Some(hint), beyond: Some(beyond) }
    }

    /// The fault of a value below (`is_negative`) or above the range.
    pub(crate) const fn past(is_negative: bool) -> Self {
        if is_negative { Self::LOW } else { Self::HIGH }
    }
}
