//! What a local store has promised is on the disk.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use super::*;

#[tokio::test]
async fn puts_once_where_asked_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path()).unwrap();
    let path = Path::from("a/b");
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&path, "one".into(), create()).await.unwrap();
    let again = store.put_opts(&path, "two".into(), create()).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");
    store.put(&path, "three".into()).await.unwrap();
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(std::fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
}

#[tokio::test]
async fn removes_many_and_says_which_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path()).unwrap();
    let path = |number: usize| Path::from(format!("a/{number}"));
    for number in 0..250 {
        store.put(&path(number), "one".into()).await.unwrap();
    }
    let paths = stream::iter((0..260).filter(|it| *it != 7).map(path).map(Ok)).boxed();
    let removed: Vec<Result<Path>> = store.delete_stream(paths).collect().await;
    assert_eq!(removed.iter().filter(|it| it.is_ok()).count(), 249);
    let absent = removed.iter().filter(|it| matches!(it, Err(Error::NotFound { .. })));
    assert_eq!((absent.count(), removed.len()), (10, 259));
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!(listed.into_iter().map(|it| it.location).collect::<Vec<_>>(), [path(7)]);
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    File(Bytes),
}

type Names = BTreeMap<PathBuf, Node>;

/// A disk that keeps over a power failure what was synced, and nothing else.
#[derive(Debug, Default)]
struct Volatile {
    names: RefCell<Names>,
    synced: RefCell<Names>,
    /// The calls that are left until the power fails.
    calls_left: RefCell<usize>,
}

impl Volatile {
    fn call(&self) -> io::Result<()> {
        let mut left = self.calls_left.borrow_mut();
        *left = left.checked_sub(1).ok_or_else(|| io::Error::other("no power"))?;
        Ok(())
    }

    fn taken(&self, path: &FilePath) -> Option<Node> {
        self.names.borrow_mut().remove(path)
    }

    fn enter(&self, path: &FilePath, node: Node) {
        assert_eq!(self.names.borrow().get(path.parent().unwrap()), Some(&Node::Folder));
        self.names.borrow_mut().insert(path.to_path_buf(), node);
    }

    /// The power is back.
    fn fail(&self) {
        let synced = self.synced.borrow();
        // A name is lost with the folder that it is in.
        let is_reached = |path: &PathBuf| {
            path.ancestors().skip(1).all(|folder| folder == "" || synced.contains_key(folder))
        };
        let kept = synced.iter().filter(|(path, _)| is_reached(path));
        *self.names.borrow_mut() = kept.map(|(path, node)| (path.clone(), node.clone())).collect();
        *self.calls_left.borrow_mut() = usize::MAX;
    }
}

impl Disk for Volatile {
    fn is_folder(&self, path: &FilePath) -> bool {
        self.names.borrow().get(path) == Some(&Node::Folder)
    }

    fn make_folder(&self, path: &FilePath) -> io::Result<()> {
        self.call()?;
        self.enter(path, Node::Folder);
        Ok(())
    }

    fn sync_folder(&self, path: &FilePath) -> io::Result<()> {
        self.call()?;
        let inside = |name: &PathBuf| name.parent() == Some(path);
        let mut synced = self.synced.borrow_mut();
        synced.retain(|name, _| !inside(name));
        let names = self.names.borrow();
        let fresh = names.iter().filter(|(name, _)| inside(name));
        synced.extend(fresh.map(|(name, node)| (name.clone(), node.clone())));
        Ok(())
    }

    fn write_synced(&self, path: &FilePath, payload: &PutPayload) -> io::Result<()> {
        self.call()?;
        self.enter(path, Node::File(payload.iter().flatten().copied().collect()));
        Ok(())
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.call()?;
        let file = self.taken(from).unwrap();
        self.enter(to, file);
        Ok(())
    }

    fn rename_new(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        assert!(!self.names.borrow().contains_key(to));
        self.rename(from, to)
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        self.call()?;
        self.taken(path);
        Ok(())
    }
}

/// The power fails before each call of two puts: what a put has promised is there, and what it has
/// not promised is there whole or as it was.
#[test]
fn a_power_failure_at_any_call_loses_no_object_that_was_put() {
    let (root, path) = (PathBuf::from("root"), PathBuf::from("root/a/b/c"));
    let mut ends = 0;
    for calls in 0.. {
        let disk = Volatile::default();
        for names in [&disk.names, &disk.synced] {
            names.borrow_mut().insert(root.clone(), Node::Folder);
        }
        *disk.calls_left.borrow_mut() = calls;
        let folders = Folders::new(root.clone());
        let one = put(&disk, &folders, &path, &"one".into(), false);
        let two = put(&disk, &folders, &path, &"two".into(), true);
        disk.fail();
        let found = match disk.names.borrow().get(&path) {
            Some(Node::File(content)) => Some(String::from_utf8(content.to_vec()).unwrap()),
            _ => None,
        };
        let allowed: &[Option<&str>] = match (one.is_ok(), two.is_ok()) {
            (_, true) => &[Some("two")],
            (true, false) => &[Some("one"), Some("two")],
            (false, false) => &[None, Some("one")],
        };
        assert!(allowed.contains(&found.as_deref()), "after {calls} calls: {found:?}");
        // The next process over what is left.
        put(&disk, &Folders::new(root.clone()), &path, &"three".into(), true).unwrap();
        disk.fail();
        assert_eq!(disk.names.borrow().get(&path), Some(&Node::File("three".into())));
        if two.is_ok() {
            ends += 1;
        }
        if ends == 2 {
            break;
        }
    }
}

/// The folder of an object was made by somebody who has not synced its name.
#[test]
fn the_name_of_a_folder_that_is_there_is_synced() {
    let disk = Volatile { calls_left: RefCell::new(usize::MAX), ..Volatile::default() };
    let root = PathBuf::from("root");
    for names in [&disk.names, &disk.synced] {
        names.borrow_mut().insert(root.clone(), Node::Folder);
    }
    disk.make_folder(&root.join("a")).unwrap();
    let path = root.join("a/b");
    put(&disk, &Folders::new(root), &path, &"one".into(), false).unwrap();
    disk.fail();
    assert_eq!(disk.names.borrow().get(&path), Some(&Node::File("one".into())));
}
