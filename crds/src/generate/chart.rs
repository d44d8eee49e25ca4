//! The definitions as templates of the chart `tallyman-crds`. Templates, and not Helm's folder `crds/`, so that `helm upgrade` upgrades them.

use super::{Error, File, HEADER};

/// What the chart adds to a definition's metadata; the templates are in its `_helpers.tpl`.
const METADATA: &str = "  labels:\n    {{- include \"tallyman-crds.labels\" . | nindent 4 }}\n  \
                        annotations:\n    {{- include \"tallyman-crds.annotations\" . | nindent 4 }}\n";

/// The templates of `charts/tallyman-crds/templates/`, one a definition.
///
/// # Errors
/// See [`Error`].
pub fn templates() -> Result<Vec<File>, Error> {
    super::files()?.into_iter().map(|file| Ok(File { text: template(&file.text)?, ..file })).collect()
}

/// A printed definition as a template: its own text may hold no action of Helm's.
fn template(definition: &str) -> Result<String, Error> {
    let body = definition.strip_prefix(HEADER).ok_or(Error::Head)?;
    let literal = body.replace("{{", "{{ \"{{\" }}");
    let (head, rest) = literal.split_once("\nspec:\n").ok_or(Error::Head)?;
    let expected_head = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: ";
    if !head.starts_with(expected_head) || head.lines().count() != expected_head.lines().count() {
        return Err(Error::Head);
    }
    Ok(format!("{HEADER}{head}\n{METADATA}spec:\n{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_adds_metadata_and_keeps_the_definitions_own_braces() {
        let head = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: a.b";
        let text = template(&format!("{HEADER}{head}\nspec:\n  rule: '{{{{}}'\n")).unwrap();
        assert_eq!(text, format!("{HEADER}{head}\n{METADATA}spec:\n  rule: '{{{{ \"{{{{\" }}}}}}'\n"));
    }

    #[test]
    fn a_definition_with_metadata_of_its_own_is_refused() {
        let head =
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: a.b\n  labels: {}";
        assert!(matches!(template(&format!("{HEADER}{head}\nspec:\n")), Err(Error::Head)));
    }
}
