//! [`memory_bytes`]: the memory that this process may use; [`Resident`]: what it has.

use std::path::Path;

/// What is assumed of a machine that does not tell its memory.
const UNKNOWN_MACHINE_BYTES: u64 = 4 << 30;

/// Memory of the machine in bytes, or the least limit of the control groups that the process is in.
pub fn memory_bytes() -> u64 {
    least_limit(|path| std::fs::read_to_string(Path::new(path)).ok())
}

/// Memory of this process that is in use, in bytes; 0 where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// The process's own: the heap and stacks.
    pub anonymous: usize,
    /// Pages of mapped files, such as the program and scratch files.
    pub files: usize,
}

impl Resident {
    /// As it is now.
    pub fn now() -> Self {
        Self::of(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    fn of(status: &str) -> Self {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kilobytes = line.and_then(|it| it.trim().trim_end_matches(" kB").parse().ok());
            kilobytes.unwrap_or(0_usize) * 1024
        };
        Self { anonymous: bytes("RssAnon:"), files: bytes("RssFile:") }
    }
}

fn least_limit(read: impl Fn(&str) -> Option<String>) -> u64 {
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let files = groups.lines().filter_map(limit_files).flatten();
    // "max" and other texts that are no number mean no limit. In a container the process may see
    // only its own group, as the root.
    let limits = files.filter_map(|file| read(&file)?.trim().parse::<u64>().ok());
    limits.chain(total).min().unwrap_or(UNKNOWN_MACHINE_BYTES)
}

/// The files with the limits of a group and of those around it; `line` is of `/proc/self/cgroup`.
fn limit_files(line: &str) -> Option<Vec<String>> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    let around = Path::new(group).ancestors();
    let folder = |path: &Path| path.to_string_lossy().trim_end_matches('/').to_string();
    Some(around.map(|path| format!("{root}{}/{file}", folder(path))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(files: &[(&str, &str)]) -> u64 {
        least_limit(|path| {
            files.iter().find(|(name, _)| *name == path).map(|(_, text)| text.to_string())
        })
    }

    #[test]
    fn what_is_resident_is_read_from_the_status() {
        let status = "VmRSS:\t  30 kB\nRssAnon:\t      20 kB\nRssFile:\t      10 kB\n";
        assert_eq!(Resident::of(status), Resident { anonymous: 20_480, files: 10_240 });
        assert_eq!(Resident::of(""), Resident::default());
    }

    #[test]
    fn the_least_limit_around_the_process_counts() {
        let machine = ("/proc/meminfo", "MemFree: 1 kB\nMemTotal:   1000 kB\n");
        assert_eq!(limit(&[]), UNKNOWN_MACHINE_BYTES);
        assert_eq!(limit(&[machine]), 1_024_000);
        let two = [
            machine,
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "5000\n"),
        ];
        assert_eq!(limit(&two), 5000);
        let one = [
            machine,
            ("/proc/self/cgroup", "4:cpu:/x\n9:memory:/docker/7\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(limit(&one), 1_024_000);
    }
}
