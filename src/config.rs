//! [`Config`]: every setting, with its unit and default.
