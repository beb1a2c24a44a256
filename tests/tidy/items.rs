//! What `syn` reads from one file: its items, its imports, and the messages of its errors. Called by `source`.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Fields, Item, UseTree, Visibility};

/// Items, imports and error messages of one file, without those that are test-only.
#[derive(Default)]
pub struct Items {
    /// Names of items, each with the inline module that it is in.
    pub names: Vec<(Vec<String>, String)>,
    pub imports: Vec<Import>,
    pub messages: Vec<ErrorMessage>,
    /// Inline modules and their ranges.
    pub inline: Vec<(Vec<String>, std::ops::Range<usize>)>,
}

/// One name that `use` brings into a module.
pub struct Import {
    /// The inline module of the file that it is in.
    pub scope: Vec<String>,
    /// The path, without a final `self`; the last segment is `*` for all names.
    pub path: Vec<String>,
    /// The name in this module.
    pub name: String,
    /// Whether others may import it from here.
    pub is_public: bool,
    pub offset: usize,
}

/// The text of one `#[error("...")]`.
pub struct ErrorMessage {
    pub text: String,
    /// Names or positions of the fields that hold the source.
    pub sources: Vec<String>,
    pub offset: usize,
}

pub fn of(file: &syn::File) -> Items {
    let mut items = Items::default();
    collect(&file.items, &[], &mut items);
    Messages(&mut items.messages).visit_file(file);
    items
}

fn collect(list: &[Item], scope: &[String], items: &mut Items) {
    for item in list {
        let (attributes, name) = match item {
            Item::Const(one) => (&one.attrs, Some(&one.ident)),
            Item::Enum(one) => (&one.attrs, Some(&one.ident)),
            Item::Fn(one) => (&one.attrs, Some(&one.sig.ident)),
            Item::Static(one) => (&one.attrs, Some(&one.ident)),
            Item::Struct(one) => (&one.attrs, Some(&one.ident)),
            Item::Trait(one) => (&one.attrs, Some(&one.ident)),
            Item::Type(one) => (&one.attrs, Some(&one.ident)),
            Item::Macro(one) => (&one.attrs, one.ident.as_ref()),
            Item::Mod(one) => (&one.attrs, None),
            Item::Use(one) => (&one.attrs, None),
            _ => continue,
        };
        if is_test_only(attributes) {
            continue;
        }
        if let Some(name) = name {
            items.names.push((scope.to_vec(), name.to_string()));
        }
        match item {
            Item::Mod(module) => {
                if let Some((_, content)) = &module.content {
                    let mut inner = scope.to_vec();
                    inner.push(module.ident.to_string());
                    items
                        .inline
                        .push((inner.clone(), module.span().byte_range()));
                    collect(content, &inner, items);
                }
            }
            Item::Use(one) => {
                let is_public = !matches!(one.vis, Visibility::Inherited);
                let offset = one.span().byte_range().start;
                imports(&one.tree, Vec::new(), &mut |path, name| {
                    items.imports.push(Import {
                        scope: scope.to_vec(),
                        path,
                        name,
                        is_public,
                        offset,
                    });
                });
            }
            _ => {}
        }
    }
}

fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .meta
                .require_list()
                .is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

fn imports(tree: &UseTree, mut path: Vec<String>, found: &mut impl FnMut(Vec<String>, String)) {
    match tree {
        UseTree::Path(one) => {
            path.push(one.ident.to_string());
            imports(&one.tree, path, found);
        }
        UseTree::Group(group) => {
            for branch in &group.items {
                imports(branch, path.clone(), found);
            }
        }
        UseTree::Name(one) if one.ident == "self" => {
            let name = path.last().cloned().unwrap_or_default();
            found(path, name);
        }
        UseTree::Name(one) => {
            path.push(one.ident.to_string());
            found(path, one.ident.to_string());
        }
        UseTree::Rename(one) => {
            if one.ident != "self" {
                path.push(one.ident.to_string());
            }
            found(path, one.rename.to_string());
        }
        UseTree::Glob(_) => {
            path.push("*".to_owned());
            found(path, "*".to_owned());
        }
    }
}

struct Messages<'a>(&'a mut Vec<ErrorMessage>);

impl Messages<'_> {
    fn add(&mut self, attributes: &[Attribute], fields: &Fields) {
        for attribute in attributes.iter().filter(|one| one.path().is_ident("error")) {
            // `transparent` is no string.
            let first = attribute.parse_args_with(|input: syn::parse::ParseStream<'_>| {
                let text: syn::LitStr = input.parse()?;
                let _rest: proc_macro2::TokenStream = input.parse()?;
                Ok(text)
            });
            if let Ok(text) = first {
                self.0.push(ErrorMessage {
                    text: text.value(),
                    sources: sources(fields),
                    offset: attribute.span().byte_range().start,
                });
            }
        }
    }
}

impl Visit<'_> for Messages<'_> {
    fn visit_variant(&mut self, variant: &syn::Variant) {
        self.add(&variant.attrs, &variant.fields);
    }

    fn visit_item_struct(&mut self, item: &syn::ItemStruct) {
        self.add(&item.attrs, &item.fields);
        visit::visit_item_struct(self, item);
    }
}

fn sources(fields: &Fields) -> Vec<String> {
    let mut found = Vec::new();
    for (position, field) in fields.iter().enumerate() {
        let name = field
            .ident
            .as_ref()
            .map_or(position.to_string(), ToString::to_string);
        let is_marked = field
            .attrs
            .iter()
            .any(|one| one.path().is_ident("source") || one.path().is_ident("from"));
        if name == "source" || is_marked {
            found.push(name);
        }
    }
    found
}
