//! [`memory_bytes`]: the memory that this process may use.

use std::path::Path;

/// What is assumed of a machine that does not tell its memory.
const UNKNOWN_MACHINE_BYTES: u64 = 4 << 30;

/// Memory of the machine in bytes, or the least limit of the control groups that the process is in.
pub fn memory_bytes() -> u64 {
    least_limit(|path| std::fs::read_to_string(Path::new(path)).ok())
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
