//! What is asked for and what is there, against what is written.

use std::collections::BTreeMap;

use super::plan::{CMDLINE, Contents, FirstBoot, Image, Plan, Refusal, image, plan};
use super::program::Machine;
use super::settings::{Settings, Typed};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl anna@desk";
const LINE: &str = "console=tty1 root=PARTUUID=1-02 rootwait\n";

fn program(class: u8, machine: u8) -> Vec<u8> {
    let mut bytes = b"\x7fELF".to_vec();
    bytes.extend([class, 1]);
    bytes.resize(18, 0);
    bytes.extend([machine, 0]);
    bytes.resize(1000, 7);
    bytes
}

fn contents(names: &[&str], texts: &[(&str, &str)]) -> Contents {
    let names = names.iter().chain(texts.iter().map(|(name, _)| name)).map(|name| (*name).to_owned()).collect();
    let texts: BTreeMap<String, String> = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Contents { names, texts, free_bytes: Some(100_000), cluster_bytes: 512, ..Contents::default() }
}

fn typed() -> Typed {
    Typed { name: "shed".into(), ..Typed::default() }
}

fn person() -> Typed {
    Typed { user: Some("anna".into()), keys: vec![KEY.into()], ..typed() }
}

fn file<'a>(plan: &'a Plan, path: &str) -> &'a str {
    let found = plan.files.iter().find(|file| file.path == path);
    std::str::from_utf8(&found.unwrap_or_else(|| panic!("{path}: {:?}", paths(plan))).bytes).unwrap()
}

fn paths(plan: &Plan) -> Vec<&str> {
    plan.files.iter().map(|file| file.path.as_str()).collect()
}

fn planned(contents: &Contents, settings: &Settings) -> Plan {
    plan(image(contents).unwrap(), contents, settings, &program(2, 183), "bramble-1").unwrap()
}

#[test]
fn an_image_is_told_by_what_lies_on_its_boot_partition() {
    let of = |names: &[&str], texts: &[(&str, &str)]| image(&contents(names, texts));
    let script = |mount| FirstBoot::Script { mount };
    let bookworm = [("issue.txt", "Raspberry Pi reference 2024-11-19\nGenerated using pi-gen"), (CMDLINE, LINE)];
    let bullseye = [("issue.txt", "Raspberry Pi reference 2023-05-03\n"), (CMDLINE, LINE)];
    let wide = ["config.txt", "kernel8.img", "kernel_2712.img"];
    let narrow = ["CONFIG.TXT", "kernel.img", "kernel7.img", "kernel7l.img", "kernel8.img"];
    assert_eq!(of(&wide, &bookworm), Ok(Image { machine: Machine::Aarch64, first_boot: script("/boot/firmware") }));
    assert_eq!(
        of(&wide, &[(CMDLINE, LINE), ("issue.txt", "")]).map(|image| image.first_boot),
        Ok(script("/boot/firmware")),
        "no date"
    );
    assert_eq!(of(&narrow, &bullseye), Ok(Image { machine: Machine::Arm, first_boot: script("/boot") }));
    for seed in ["user-data", "meta-data", "network-config"] {
        assert_eq!(of(&wide, &[(CMDLINE, LINE), (seed, "")]).map(|image| image.first_boot), Ok(FirstBoot::CloudInit));
    }
    let refusal = of(&["kernel8.img", "EFI"], &[]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "it is no Raspberry Pi OS: its boot partition has no config.txt, no cmdline.txt, no issue.txt or user-data"
    );
    let missing = |names: &[&str], texts: &[(&str, &str)]| match of(names, texts) {
        Err(Refusal::NotPi { missing }) => missing,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&["config.txt", "issue.txt"], &[(CMDLINE, LINE)]), ["kernel8.img or kernel7.img"]);
    assert_eq!(missing(&wide, &[(CMDLINE, LINE)]), ["issue.txt or user-data"], "another system for the Pi");
    // A folder is no seed, and no file of the firmware's.
    let with_folder = |name: &str, texts: &[(&str, &str)]| {
        let there = contents(&[&wide[..], &[name]].concat(), texts);
        image(&Contents { folders: [name.to_owned()].into(), ..there })
    };
    assert_eq!(with_folder("User-Data", &bookworm).map(|image| image.first_boot), Ok(script("/boot/firmware")));
    assert!(matches!(with_folder("config.txt", &bookworm), Err(Refusal::NotPi { missing }) if missing == ["config.txt"]));
}

#[test]
fn a_second_flash_without_wi_fi_takes_the_first_one_s_off_the_card() {
    let seeds = |network: &str, kept: Option<&str>| {
        let mut texts = vec![("user-data", ""), ("network-config", network), (CMDLINE, LINE)];
        texts.extend(kept.map(|kept| ("network-config.old", kept)));
        contents(&["config.txt", "kernel8.img"], &texts)
    };
    let wifi = Typed { ssid: Some("IEEE".into()), passphrase: Some("password".into()), country: Some("DE".into()), ..typed() };
    let own = "network:\n  version: 2\n";
    let first = planned(&seeds(own, None), &wifi.check().unwrap());
    let ours = file(&first, "network-config");
    assert!(ours.contains("IEEE") && file(&first, "network-config.old") == own);
    let without = typed().check().unwrap();
    let second = planned(&seeds(ours, Some(own)), &without);
    assert_eq!(file(&second, "network-config"), own, "the image's own comes back");
    let bare = planned(&seeds(ours, None), &without);
    let cable = file(&bare, "network-config");
    assert!(cable.contains("eth0") && !cable.contains("wifis") && !cable.contains("IEEE"), "{cable}");
    for of_image in ["", own] {
        assert!(!paths(&planned(&seeds(of_image, None), &without)).contains(&"network-config"), "{of_image:?} stays");
    }
}

#[test]
fn what_is_in_the_way_of_a_name_or_could_not_be_kept_is_refused_by_its_name() {
    let seeds = [("user-data", ""), ("meta-data", ""), (CMDLINE, LINE)];
    let with = |name: &str, change: &dyn Fn(&mut Contents)| {
        let mut there = contents(&["config.txt", "kernel8.img", name], &seeds);
        change(&mut there);
        let settings = typed().check().unwrap();
        plan(image(&there).unwrap(), &there, &settings, &program(2, 183), "i").map(drop).map_err(|refusal| refusal.to_string())
    };
    let folder = |name: &str| with(name, &|there| there.folders.extend([name.to_owned()]));
    let told = |result: Result<(), String>, begin: &str| {
        let why = result.unwrap_err();
        assert!(why.starts_with(begin), "{why}");
    };
    told(folder("user-data"), "user-data on its boot partition is a folder, and a file of that name");
    told(folder("META-DATA"), "meta-data on its boot partition is a folder");
    told(with("bramble", &|_| ()), "bramble on its boot partition is a file, and a folder of that name");
    told(with("Bramble.new", &|_| ()), "bramble.new on its boot partition is a file");
    assert_eq!((folder("bramble"), folder("bramble.new"), folder("overlays")), (Ok(()), Ok(()), Ok(())));
    for bytes in [Some(b"caf\xe9".to_vec()), None] {
        let strange = with("x", &|there| {
            there.texts.remove("user-data");
            there.take("User-Data", bytes.clone());
        });
        told(strange, "user-data on its boot partition is no text, or longer than 256 KiB");
    }
}

#[test]
fn what_stands_in_quotes_in_a_seed_is_printable_ascii_whatever_was_typed() {
    let typed = Typed {
        keys: vec![format!("{KEY} \u{2028}\u{fffe}")],
        ssid: Some("a\u{2028}\u{fffe}\u{1f353}\"é".into()),
        country: Some("DE".into()),
        ..person()
    };
    let settings = typed.check().unwrap();
    let text = super::cloud_init::user_data(&settings) + &super::cloud_init::network_config(settings.wifi.as_ref());
    assert!(text.chars().all(|c| matches!(c, ' '..='~' | '\n')), "{text}");
    assert!(text.contains(r#""a\u2028\ufffe\U0001f353\"\u00e9": {}"#) && text.contains(r"anna@desk \u2028\ufffe"), "{text}");
}

#[test]
fn an_agent_for_another_processor_or_a_full_partition_is_refused() {
    let there = contents(&["config.txt", "kernel8.img", "issue.txt"], &[(CMDLINE, LINE)]);
    let settings = typed().check().unwrap();
    let refused = |there: &Contents, agent: &[u8]| plan(image(there).unwrap(), there, &settings, agent, "i").unwrap_err();
    let other = refused(&there, &program(1, 40));
    assert_eq!(other.to_string(), "it is a 64-bit Raspberry Pi OS, and the agent's program is for 32-bit ARM");
    let narrow = contents(&["config.txt", "kernel7.img", "kernel8.img", "issue.txt"], &[(CMDLINE, LINE)]);
    assert_eq!(refused(&narrow, &program(2, 183)), Refusal::Machine { image: Machine::Arm, agent: Machine::Aarch64 });
    let full = Contents { free_bytes: Some(5000), ..there };
    assert!(
        matches!(refused(&full, &program(2, 183)), Refusal::Full { free_bytes: 5000, needed_bytes } if needed_bytes > 5000 && needed_bytes % 512 == 0)
    );
}

#[test]
fn an_image_with_cloud_init_gets_its_files_and_somebodys_own_are_kept_beside() {
    let seeds = [("user-data", "#cloud-config\n\n# nothing\n"), ("meta-data", "instance_id: rpios-image\n"), (CMDLINE, LINE)];
    let there = contents(&["config.txt", "kernel8.img"], &seeds);
    let plan = planned(&there, &person().check().unwrap());
    let user_data = file(&plan, "user-data");
    for part in ["#cloud-config\n", "hostname: \"shed\"", "name: \"anna\"", "lock_passwd: true", KEY, "bramble/install.sh"] {
        assert!(user_data.contains(part), "{part} in {user_data}");
    }
    assert!(file(&plan, "meta-data").contains("instance-id: \"bramble-1\""));
    assert_eq!(file(&plan, "meta-data.old"), "instance_id: rpios-image\n");
    // Without Wi-Fi the image's own network stays; comments are nobody's settings.
    assert!(
        !paths(&plan).iter().any(|path| path.starts_with("network-config") || *path == "user-data.old"),
        "{:?}",
        paths(&plan)
    );
    assert_eq!(plan.cmdline.as_deref(), Some("console=tty1 root=PARTUUID=1-02 rootwait cgroup_memory=1 cgroup_enable=memory\n"));
    // A second time its own files are no one else's.
    let again = contents(
        &["config.txt", "kernel8.img"],
        &[("user-data", user_data), ("meta-data", file(&plan, "meta-data")), (CMDLINE, plan.cmdline.as_deref().unwrap())],
    );
    let second = planned(&again, &person().check().unwrap());
    assert_eq!(second.cmdline, None);
    assert!(!paths(&second).iter().any(|path| path.ends_with(".old")), "{:?}", paths(&second));
}

#[test]
fn an_image_without_cloud_init_gets_a_script_and_no_word_of_what_was_typed_is_in_it() {
    let there = contents(&["config.txt", "kernel8.img", "issue.txt"], &[(CMDLINE, LINE)]);
    let typed = Typed {
        password_hash: Some("$6$salt$hash".into()),
        ssid: Some("Anna's \"net\"; $(reboot)".into()),
        passphrase: Some("correct horse".into()),
        country: Some("DE".into()),
        ..person()
    };
    let plan = planned(&there, &typed.check().unwrap());
    let script = file(&plan, "firstrun.sh");
    assert!(!["anna", "salt", "reboot)", "shed"].iter().any(|word| script.contains(word)));
    assert_eq!(file(&plan, "bramble/user"), "anna\n");
    assert_eq!(file(&plan, "bramble/password"), "$6$salt$hash\n");
    assert!(file(&plan, "bramble/wifi.nmconnection").contains("ssid=65;110;110;97;39;115;32;"));
    assert!(file(&plan, "bramble/wpa_supplicant.conf").contains("ssid=416e6e61"));
    assert!(
        !plan.files.iter().any(|file| String::from_utf8_lossy(&file.bytes).contains("correct horse")),
        "the passphrase is nowhere"
    );
    let line = plan.cmdline.unwrap();
    assert!(line.starts_with(LINE.trim_end()), "only more at its end: {line}");
    assert!(
        line.ends_with(
            " systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target\n"
        ),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn a_command_line_that_cannot_be_continued_is_refused_and_another_s_script_is_kept() {
    let names = ["config.txt", "kernel8.img", "issue.txt"];
    let why = |texts: &[(&str, &str)]| image(&contents(&names, texts)).unwrap_err().to_string();
    assert_eq!(why(&[(CMDLINE, " \n")]), "its cmdline.txt is empty");
    assert_eq!(why(&[(CMDLINE, "a\n\nb\n")]), "its cmdline.txt has more than one line, of which the Pi reads the first");
    assert_eq!(why(&[(CMDLINE, "a \"b c\n")]), "its cmdline.txt has a quotation mark that is not closed");
    assert_eq!(why(&[(CMDLINE, "a -- single\n")]), "its cmdline.txt has a `--`: what comes behind it is not for the kernel");
    assert_eq!(why(&[(CMDLINE, "a \u{1} b\n")]), "its cmdline.txt is no text file that can be read");
    assert!(image(&contents(&names, &[(CMDLINE, "a--b --c\t\n\0\0")])).is_ok());
    assert!(
        matches!(image(&contents(&["config.txt", "kernel8.img", "issue.txt", CMDLINE], &[])), Err(Refusal::CommandLine(_))),
        "not read"
    );
    let settings = typed().check().unwrap();
    let long = |length: usize| {
        let there = contents(&names, &[(CMDLINE, &"x".repeat(length))]);
        plan(image(&there).unwrap(), &there, &settings, &program(2, 183), "i")
            .map(|plan| plan.cmdline.map_or(0, |line| line.trim_end().len()))
    };
    let most = (1..1024).rev().find(|length| long(*length).is_ok()).unwrap();
    assert_eq!(long(most), Ok(724), "what the doctor takes");
    assert!(matches!(long(most + 1), Err(Refusal::CommandLine(why)) if why.contains("too long")));
    assert!(image(&contents(&names, &[(CMDLINE, "a\n\n")])).is_ok());

    // Raspberry Pi Imager's.
    let script = ("firstrun.sh", "#!/bin/bash\nset +e\n");
    let with = |run: &str| contents(&names, &[(CMDLINE, &format!("{} {run}\n", LINE.trim_end())), script]);
    let settings = typed().check().unwrap();
    let there = with("systemd.run=/boot/firstrun.sh systemd.unit=kernel-command-line.target");
    let refused = plan(image(&there).unwrap(), &there, &settings, &program(2, 183), "i");
    assert!(matches!(refused, Err(Refusal::CommandLine(why)) if why.contains("another's script")), "{refused:?}");
    let at_our_place = planned(&with("systemd.run=/boot/firmware/firstrun.sh"), &settings);
    assert_eq!(file(&at_our_place, "firstrun.sh.old"), script.1);
    assert_eq!(at_our_place.cmdline.unwrap().matches("systemd.run=").count(), 1);
    // Ours is no one else's.
    let ours = file(&planned(&contents(&names, &[(CMDLINE, LINE)]), &settings), "firstrun.sh").to_owned();
    let again = planned(&contents(&names, &[(CMDLINE, LINE), ("firstrun.sh", &ours)]), &settings);
    assert!(!paths(&again).contains(&"firstrun.sh.old"));
}

#[test]
fn a_password_counts_for_an_account_that_the_image_has_already() {
    let typed = Typed { password_hash: Some("$6$salt$hash".into()), ..person() };
    let text = super::cloud_init::user_data(&typed.check().unwrap());
    assert!(text.contains("  passwd: \"$6$salt$hash\"\n  hashed_passwd: \"$6$salt$hash\"\n"), "{text}");
}

#[test]
fn the_key_of_a_network_is_that_of_the_standard() {
    // Source: IEEE 802.11-2020, J.4.2, test vector 1.
    let typed = Typed { ssid: Some("IEEE".into()), passphrase: Some("password".into()), country: Some("DE".into()), ..typed() };
    let wifi = typed.check().unwrap().wifi.unwrap();
    assert_eq!(wifi.key.as_deref(), Some("f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"));
}

#[test]
fn the_agent_s_configuration_is_put_together_from_all_that_was_given() {
    let token = "k7wq2h.x3v8m2c9d4f6h7j5".to_owned();
    let with = |config: &str| Typed { config: config.into(), master: Some("https://pi:6443".into()), ..typed() };
    let text = with("runtime = \"simulated\"\n[join]\nidentity_root = \"/x\"\n").check().unwrap().agent_toml;
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["node"].as_str(), Some("shed"));
    assert_eq!(
        (table["join"]["master"].as_str(), table["join"]["identity_root"].as_str()),
        (Some("https://pi:6443"), Some("/x"))
    );
    let node = ("node = \"shed\"\n[join]\nmaster = \"https://a\"\n".to_owned(), vec![("pki/node.key".to_owned(), b"k".to_vec())]);
    let of_folder = Typed { node: Some(node.clone()), ..typed() }.check().unwrap();
    assert!(of_folder.agent_toml.contains("https://a") && of_folder.node_files.len() == 1);
    let faults = Typed { node: Some(node), token: Some(token), name: "attic".into(), ..typed() }.check().unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("is node shed's, and the name is attic")), "{faults:?}");
}

#[test]
fn every_fault_is_told_at_once() {
    let typed = Typed {
        name: "Garden Shed".into(),
        user: Some("root".into()),
        keys: vec!["-----BEGIN OPENSSH PRIVATE KEY-----\nabc".into()],
        password_hash: Some("secret".into()),
        ssid: Some(String::new()),
        passphrase: Some("short".into()),
        country: None,
        config: "node = ".into(),
        token: Some("x".into()),
        ..Typed::default()
    };
    let faults = typed.check().unwrap_err();
    for part in [
        "the name",
        "--user",
        "--ssh-key",
        "--password-hash",
        "--wifi \"\"",
        "--wifi-country",
        "passphrase",
        "--config",
        "--token",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part} in {faults:?}");
    }
    assert!(!faults.iter().any(|fault| fault.contains("short") || fault.contains("secret")), "no secret is repeated: {faults:?}");
    let told = |typed: Typed| typed.check().map(drop).map_err(|faults| faults.join("|")).unwrap_err();
    for no_key in ["# my keys\n", "", " \n\n"] {
        let why = told(Typed { keys: vec![KEY.into(), no_key.into()], ..person() });
        assert!(why.contains("there is no key in it"), "{no_key:?}: {why}");
    }
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\ndef\nghi\n".to_owned();
    assert_eq!(told(Typed { keys: vec![private], ..person() }).matches("--ssh-key").count(), 1, "a file once");
    for hash in ["$6$a$", "$6$salt$", "$6$salt$ha:sh", "$6$salt"] {
        assert!(told(Typed { password_hash: Some(hash.into()), ..person() }).contains("--password-hash"), "{hash}");
    }
    let open = |passphrase: Option<&str>| Typed {
        ssid: Some("IEEE".into()),
        country: Some("DE".into()),
        passphrase: passphrase.map(str::to_owned),
        ..super::tests::typed()
    };
    assert!(told(open(Some(""))).contains("passphrase is empty"));
    assert_eq!(open(None).check().unwrap().wifi.unwrap().key, None);
    let nobody = Typed { user: Some("anna".into()), ..super::tests::typed() }.check().unwrap_err();
    assert!(nobody[0].contains("nobody could log in as anna"), "{nobody:?}");
    let whose =
        Typed { keys: vec![KEY.into()], passphrase: Some("long enough".into()), ..super::tests::typed() }.check().unwrap_err();
    assert_eq!(whose.len(), 2, "{whose:?}");
}
