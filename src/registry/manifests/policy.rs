//! Which manifests the registry accepts, beyond the rules of the specification.
//!
//! The policy is registry:2's: the addresses from which clients may download foreign layers, the
//! children that an index must have here, and the classes of content that the registry is for.

use std::fmt;

use regex::Regex;
use serde::Deserialize;

use crate::oci::{Descriptor, Manifest, ManifestKind, Platform};

/// `validation`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Validation {
    /// Accepts any address of a layer, and any children of an index.
    pub disabled: bool,
    /// The older opposite of `disabled`, which wins over `enabled`.
    pub enabled: bool,
    /// The rules for manifests.
    pub manifests: ManifestRules,
}

/// `validation.manifests`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ManifestRules {
    /// For the addresses of layers.
    pub urls: UrlRules,
    /// For the children of indexes.
    pub indexes: IndexRules,
}

/// `validation.manifests.urls`: the addresses from which clients may download a layer in place of this
/// registry. Without a rule of either kind every address is allowed, as the specification lets a layer
/// be elsewhere. registry:2 then allows no address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UrlRules {
    /// An address has to match one of these; an empty list allows every address.
    pub allow: Vec<Pattern>,
    /// An address must match none of these.
    pub deny: Vec<Pattern>,
}

/// `validation.manifests.indexes`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct IndexRules {
    /// The platforms whose children have to be here.
    pub platforms: Platforms,
    /// Those platforms, with `platforms: list`.
    pub platformlist: Vec<Platform>,
}

/// `validation.manifests.indexes.platforms`, in any case.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Platforms {
    /// All.
    #[default]
    All,
    /// None.
    None,
    /// The listed platforms.
    List,
}

/// `policy`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PolicyOptions {
    /// `policy.repository`
    pub repository: RepositoryPolicy,
}

/// `policy.repository`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RepositoryPolicy {
    /// The classes that clients may push: `image`, `plugin`. An empty list allows every class.
    pub classes: Vec<String>,
}

/// A regular expression.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether some part of a text matches.
    pub(in crate::registry) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        Regex::new(&text).map(Self)
    }
}

/// The reason to refuse a valid manifest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// A layer has an address that the rules forbid.
    #[error(
        "a layer can be downloaded from {url:?}, which this registry does not allow \
         (validation.manifests.urls)"
    )]
    Url {
        /// The address.
        url: String,
    },
    /// The content has a class that this registry is not for.
    #[error(
        "this registry does not take a manifest of the class {class:?} (policy.repository.classes)"
    )]
    Class {
        /// The class, or the media type of a configuration without a class.
        class: String,
    },
}

/// The rules that are in force.
#[derive(Clone, Debug, Default)]
pub(in crate::registry) struct ManifestPolicy {
    validation: Validation,
    classes: Vec<String>,
}

impl ManifestPolicy {
    pub(in crate::registry) fn new(validation: Validation, policy: PolicyOptions) -> Self {
        Self { validation, classes: policy.repository.classes }
    }

    fn is_strict(&self) -> bool {
        self.validation.enabled || !self.validation.disabled
    }

    /// Checks a manifest on its own, without the repository.
    pub(in crate::registry) fn judge(&self, manifest: &Manifest) -> Result<(), Unacceptable> {
        let ManifestKind::Image { config, layers } = manifest.kind() else { return Ok(()) };
        self.judge_class(&config.media_type)?;
        if !self.is_strict() {
            return Ok(());
        }
        let mut urls = layers.iter().flat_map(|layer| layer.urls.iter().flatten());
        match urls.find(|url| !self.allows(url)) {
            Some(url) => Err(Unacceptable::Url { url: url.clone() }),
            None => Ok(()),
        }
    }

    fn allows(&self, url: &str) -> bool {
        let UrlRules { allow, deny } = &self.validation.manifests.urls;
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(url));
        let is_address =
            (url.starts_with("http://") || url.starts_with("https://")) && !url.contains('#');
        if allow.is_empty() && deny.is_empty() {
            return true;
        }
        is_address && (allow.is_empty() || matches(allow)) && !matches(deny)
    }

    fn judge_class(&self, config: &str) -> Result<(), Unacceptable> {
        if self.classes.is_empty() {
            return Ok(());
        }
        let class = match config {
            "application/vnd.docker.container.image.v1+json"
            | "application/vnd.oci.image.config.v1+json" => "image",
            "application/vnd.docker.plugin.v1+json" => "plugin",
            other => other,
        };
        if self.classes.iter().any(|allowed| allowed == class) {
            return Ok(());
        }
        Err(Unacceptable::Class { class: class.to_owned() })
    }

    /// Whether an index requires this child to be here.
    pub(in crate::registry) fn needs(&self, child: &Descriptor) -> bool {
        let IndexRules { platforms, platformlist } = &self.validation.manifests.indexes;
        match platforms {
            _ if !self.is_strict() => false,
            Platforms::All => true,
            Platforms::None => false,
            Platforms::List => child.platform.as_ref().is_some_and(|platform| {
                platformlist.iter().any(|listed| {
                    listed.architecture == platform.architecture && listed.os == platform.os
                })
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest_policy(validation: serde_json::Value, classes: &[&str]) -> ManifestPolicy {
        let classes = classes.iter().map(ToString::to_string).collect();
        let policy = PolicyOptions { repository: RepositoryPolicy { classes } };
        ManifestPolicy::new(serde_json::from_value(validation).unwrap(), policy)
    }

    fn image(config: &str, url: &str) -> Manifest {
        let digest = format!("sha256:{}", "a".repeat(64));
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": { "mediaType": config, "digest": digest, "size": 1 },
            "layers": [{ "mediaType": "x", "digest": digest, "size": 1, "urls": [url] }],
        });
        Manifest::parse(manifest.to_string().as_bytes(), None).unwrap()
    }

    #[test]
    fn urls_of_layers_must_be_allowed() {
        let rules = |allow: &[&str], deny: &[&str]| {
            let urls = serde_json::json!({ "allow": allow, "deny": deny });
            manifest_policy(serde_json::json!({ "manifests": { "urls": urls } }), &[])
        };
        let takes = |rules: &ManifestPolicy, url| rules.judge(&image("x", url)).is_ok();
        let near = "https://near.example/layer";
        let far = "https://far.example/layer";
        assert!(takes(&rules(&[], &[]), near), "without rules every URL is allowed");
        let allowing = rules(&["^https://near[.]example/"], &[]);
        assert!(takes(&allowing, near) && !takes(&allowing, far));
        let denying = rules(&[], &["far"]);
        assert!(takes(&denying, near) && !takes(&denying, far));
        let both = rules(&["example"], &["far"]);
        assert!(takes(&both, near) && !takes(&both, far));
        for bad in ["ftp://near.example/layer", "https://near.example/#layer", "near.example"] {
            assert!(!takes(&both, bad), "{bad}");
        }
        let switched = |disabled: bool, enabled: bool| {
            let manifests = serde_json::json!({ "urls": { "deny": ["far"] } });
            let rules = serde_json::json!({
                "disabled": disabled, "enabled": enabled, "manifests": manifests,
            });
            takes(&manifest_policy(rules, &[]), far)
        };
        assert!(switched(true, false) && !switched(false, false));
        assert!(!switched(true, true), "`disabled` is stronger, as in registry:2");
    }

    #[test]
    fn classes_that_the_policy_does_not_list_are_refused() {
        let image_config = "application/vnd.oci.image.config.v1+json";
        let plugin = "application/vnd.docker.plugin.v1+json";
        let off = || serde_json::json!({ "disabled": true });
        let takes = |classes: &[&str], config| {
            manifest_policy(off(), classes).judge(&image(config, "http://a/")).is_ok()
        };
        assert!(takes(&[], "application/x") && takes(&[], plugin));
        assert!(takes(&["image"], image_config) && !takes(&["image"], plugin));
        assert!(takes(&["plugin"], plugin) && !takes(&["plugin"], image_config));
        assert!(!takes(&["image", "plugin"], "application/x"));
    }

    #[test]
    fn index_requires_the_children_of_the_listed_platforms() {
        let child = |platform: serde_json::Value| {
            let digest = format!("sha256:{}", "a".repeat(64));
            serde_json::from_value::<Descriptor>(
                serde_json::json!({ "digest": digest, "size": 1, "platform": platform }),
            )
            .unwrap()
        };
        let amd64 = child(serde_json::json!({ "architecture": "amd64", "os": "linux" }));
        let arm64 = child(serde_json::json!({ "architecture": "arm64", "os": "linux" }));
        let nowhere = child(serde_json::Value::Null);
        let needs = |indexes: serde_json::Value| {
            let rules =
                manifest_policy(serde_json::json!({ "manifests": { "indexes": indexes } }), &[]);
            [&amd64, &arm64, &nowhere].map(|child| rules.needs(child))
        };
        assert_eq!(needs(serde_json::json!({})), [true; 3]);
        assert_eq!(needs(serde_json::json!({ "platforms": "none" })), [false; 3]);
        let listed = serde_json::json!({
            "platforms": "list",
            "platformlist": [{ "architecture": "amd64", "os": "linux" }],
        });
        assert_eq!(needs(listed), [true, false, false]);
    }
}
