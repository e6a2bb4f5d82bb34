//! [`Env`]: the one door to time, chance, disk and tasks.
