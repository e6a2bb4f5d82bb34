//! No ring of files: what a file imports does not import it, directly or through others.
//!
//! A file imports the files that define what it names, by `use` or by a path. An imported name
//! stands for what it was imported from, so that a door is not what its visitors import.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{root, rust_files};

/// `a::b` as `["a", "b"]`.
type Name = Vec<String>;

/// What a file names.
#[derive(Default)]
struct Mentions {
    /// What it imports: the module in which the `use` stands, its path, whether it is `pub`.
    uses: Vec<(Name, Name, bool)>,
    /// Other paths, with their modules.
    paths: Vec<(Name, Name)>,
    /// Words outside of `use`.
    words: BTreeSet<String>,
}

impl Mentions {
    fn read(&mut self, tokens: TokenStream, module: &Name) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let (mut at, mut is_public) = (0, false);
        while let Some(token) = tokens.get(at) {
            let mut paths = Vec::new();
            match token {
                TokenTree::Ident(word) if word == "pub" => {
                    let is_restricted = matches!(tokens.get(at + 1), Some(TokenTree::Group(_)));
                    (at, is_public) = (at + 1 + usize::from(is_restricted), true);
                    continue;
                }
                TokenTree::Ident(word) if word == "use" => {
                    at += 1 + read_paths(&tokens[at + 1..], &[], &mut paths);
                    let imported = paths.into_iter();
                    self.uses.extend(imported.map(|path| (module.clone(), path, is_public)));
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let [TokenTree::Ident(name), TokenTree::Group(body), ..] = &tokens[at + 1..]
                    {
                        self.read(body.stream(), &[&module[..], &[name.to_string()]].concat());
                        at += 1;
                    }
                    at += 2;
                }
                TokenTree::Ident(_) => {
                    at += read_paths(&tokens[at..], &[], &mut paths);
                    self.words.extend(paths.iter().flatten().cloned());
                    let paths = paths.into_iter().filter(|path| path.len() > 1);
                    self.paths.extend(paths.map(|path| (module.clone(), path)));
                }
                TokenTree::Group(group) => {
                    self.read(group.stream(), module);
                    at += 1;
                }
                _ => at += 1,
            }
            is_public = false;
        }
    }
}

/// Reads a path, or the paths of a tree such as `a::{b, c::*}`; gives the number of tokens read.
fn read_paths(tokens: &[TokenTree], prefix: &[String], paths: &mut Vec<Name>) -> usize {
    let is = |at: usize, sign: &str| tokens.get(at).is_some_and(|it| it.to_string() == sign);
    let (mut path, mut at) = (prefix.to_vec(), 0);
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) => path.push(name.to_string()),
            Some(TokenTree::Group(tree)) if at > 0 && tree.delimiter() == Delimiter::Brace => {
                let tree: Vec<TokenTree> = tree.stream().into_iter().collect();
                let comma = |token: &TokenTree| token.to_string() == ",";
                tree.split(comma).for_each(|part| _ = read_paths(part, &path, paths));
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        if !(is(at, ":") && is(at + 1, ":")) {
            break;
        }
        at += 2;
    }
    if path.len() > prefix.len() || is(at, "*") {
        paths.push(path);
    }
    at
}

/// The files of a crate, by the modules that they are.
struct Crate(BTreeMap<Name, Mentions>);

impl Crate {
    fn new(texts: impl IntoIterator<Item = (Name, String)>) -> Self {
        let files = texts.into_iter().map(|(module, text)| {
            let mut mentions = Mentions::default();
            mentions.read(text.parse().unwrap(), &module);
            (module, mentions)
        });
        Self(files.collect())
    }

    fn of(source: &Path) -> Self {
        Self::new(rust_files(source).into_iter().map(|file| {
            let inside = file.strip_prefix(source).unwrap().with_extension("");
            let mut module: Name =
                inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module.last().is_some_and(|it| ["lib", "main", "mod"].contains(&it.as_str())) {
                module.pop();
            }
            (module, std::fs::read_to_string(&file).unwrap())
        }))
    }

    /// A path from the root of the crate; `None` for other crates and for what is in scope.
    fn absolute(&self, module: &Name, path: &Name) -> Option<Name> {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let child = [&module[..], &path[..1]].concat();
        match path[0].as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([&module[..], &path[1..]].concat()),
            "super" => {
                let above = &module[..module.len().checked_sub(supers)?];
                Some([above, &path[supers..]].concat())
            }
            _ => self.0.contains_key(&child).then(|| [&module[..], path].concat()),
        }
    }

    /// Pairs of a file and one that it imports.
    fn imports(&self) -> BTreeSet<(String, String)> {
        // What imported names stand for; nothing for those of other crates.
        let mut names: BTreeMap<Name, Option<Name>> = BTreeMap::new();
        for (file, mentions) in &self.0 {
            for (module, path, _) in &mentions.uses {
                let name = [&file[..], path.last().map_or(&[], std::slice::from_ref)].concat();
                names.insert(name, self.absolute(module, path));
            }
        }
        let defining = |mut path: Name| -> Option<Name> {
            // A name may be handed on several times.
            for _ in 0..8 {
                let parts = (0..=path.len()).rev().find(|at| self.0.contains_key(&path[..*at]))?;
                match path.get(..=parts).and_then(|name| names.get(name)) {
                    Some(of) => path = [&of.clone()?[..], &path[parts + 1..]].concat(),
                    None => return Some(path[..parts].to_vec()),
                }
            }
            None
        };
        let mut imports = BTreeSet::new();
        for (file, mentions) in &self.0 {
            // What is only handed on is not imported.
            let is_used = |path: &Name| path.last().is_some_and(|it| mentions.words.contains(it));
            let used =
                mentions.uses.iter().filter(|(_, path, is_public)| !is_public || is_used(path));
            let used = used.map(|(module, path, _)| (module, path));
            for (module, path) in used.chain(mentions.paths.iter().map(|(at, path)| (at, path))) {
                let target = self.absolute(module, path).and_then(&defining);
                if let Some(target) = target.filter(|target| target != file) {
                    imports.insert((file.join("::"), target.join("::")));
                }
            }
        }
        imports
    }

    fn rings(&self) -> Vec<Vec<String>> {
        let imports = self.imports();
        let graph: DiGraphMap<&str, ()> =
            imports.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        let rings = tarjan_scc(&graph).into_iter().filter(|files| files.len() > 1);
        rings.map(|files| files.into_iter().map(str::to_owned).collect()).collect()
    }
}

#[test]
fn files_import_each_other_in_no_ring() {
    let mut sources = vec![root().join("src")];
    for connector in std::fs::read_dir(root().join("connectors")).unwrap() {
        let connector = connector.unwrap().path();
        sources.push(connector.join("src"));
        let tests = std::fs::read_dir(connector.join("tests")).into_iter().flatten();
        sources.extend(tests.map(|entry| entry.unwrap().path()).filter(|it| it.is_dir()));
    }
    let (mut rings, mut checked) = (Vec::new(), 0);
    for source in sources.into_iter().filter(|source: &PathBuf| source.is_dir()) {
        let files = Crate::of(&source);
        checked += files.imports().len();
        rings.extend(files.rings());
    }
    assert!(checked > 1000, "the imports were not read");
    assert!(rings.is_empty(), "rings of files: {rings:#?}");
}

#[test]
fn a_ring_would_be_found() {
    let rings = |texts: &[(&str, &str)]| {
        let name = |module: &str| module.split("::").map(str::to_owned).collect();
        Crate::new(texts.iter().map(|(module, text)| (name(module), (*text).to_owned()))).rings()
    };
    let door = ("a", "mod b;\nmod c;\npub use b::{B, f};");
    let ring = [("a::b", "use super::c::C;"), ("a::c", "fn g() { assert!(crate::a::f()) }")];
    assert_eq!(rings(&[door, ring[0], ring[1]]).len(), 1);
    assert_eq!(rings(&[door, ring[0], ("a::c", "// use super::B;")]).len(), 0);
    // What a parent defines and what it takes from its child.
    let child = ("a::b", "mod tests { use super::*; use super::super::A; }");
    assert_eq!(rings(&[("a", "mod b; pub use b::B; struct A;"), child]).len(), 0);
    assert_eq!(rings(&[("a", "mod b; pub use b::B; struct A(B);"), child]).len(), 1);
}
