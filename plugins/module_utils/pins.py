"""What this collection itself installs by Python's tools: hashes of each version that it pins.

`uv pip compile --universal --generate-hashes` has them. Of MarkupSafe those of Linux with glibc,
and of its source, are here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# a pin: what it needs, pinned as well, and the SHA-256 of its files
LOCKED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "crawler-user-agents==1.67.0": (
        (),
        ("438880782e9689d953f850846bb7a425dd444de02be2b7c3e1bf2dd636b65d8c",),
    ),
    "dnspython==2.9.2": (
        (),
        (
            "8d4d39a513e649d634004ce4d39ade2352efcea472a0247535a5c2d18a9d7ba9",
            "af15f7d385a6ae2fb35a796fde2138004c8c42c7389090e2addc83e3b3340fd8",
        ),
    ),
    "gunicorn==27.0.1": (
        (),
        (
            "378b26b9a38adcf4592f28828233c1716acc55e833ea06bf48719782efaa0d10",
            "b1514965361c8b7e8107a80aa2a92636878df1ccfac6dd204a676426e04d9e3e",
        ),
    ),
    "jinja2==3.1.6": (
        ("markupsafe==3.0.4",),
        (
            "0137fb05990d35f1275a587e9aee6d56da821fc83491a0fb838183be43f66d6d",
            "85ece4451f492d0c13c5dd7c13a64681a86afae63a5f347908daf103ce6d2f67",
        ),
    ),
    "markupsafe==3.0.4": (
        (),
        (
            "1caa2fa5a6184fb233153b35f654e6687bd555476f6170f29d8ee9be1a8b0af9",
            "2e9ad7dd851bf45fab9f75cbff4cb493fee9979e8d8c7c9c3ee119022518edd6",
            "434139499bb20b502ed3baa1f169e618f924a97e7a777fea1a49446d80106cf6",
            "6a45c3d514f2436064db00d7fc8778d888f0236ebfed649b53d13a59e69ad51b",
            "6da83a088f8ef93b2d483a8232a4dbf4d69d3d8496b568a03c56becac43e1808",
            "7018d4af1cd272e847aa5917983ab5e83e4f6579f9dbfecd4a79c0ca80b144c2",
            "849dd2bb0e5e4ab2b71c7191726a4a8d5aa8a610daa584728cbee0b710ddc4ef",
            "8e124f974786f831d6043728e38296969d3579db8896fe004682f5758e613581",
            "a8e9f292fcda89b324f2f5c91d13f1424a153e40fc2756f38ee23b15835ff300",
        ),
    ),
    "protego==0.7.0": (
        (),
        (
            "2c032d9736a1f4f0c4318f3558353ae34da5cd038f1a5e064ded7548df315e5a",
            "944638aaee608f6c83fcad442695f3f9381a60be8d5007248f46b00f201fa5fc",
        ),
    ),
    "tqdm==4.70.1": (
        (),
        (
            "c293e525e6fef9c20e8728fd4612df02a0aa31bb5fe91ecd93e123b1b7bffa73",
            "cefd0eca11b2a37a3aee776544d4f4ae913f02688135b5556b8788dfa474afc4",
        ),
    ),
    "uv==0.13.9": (
        (),
        (
            "16963d19594e18d746a70c7fce82237bde4f2cac4cfcf0ca2b84796fe9d0c6e9",
            "2c45530751517d6c3bbc69a19473f6effe47cce047bede01ffd8af7ea7b36b25",
            "3eeeb51a267a2144640fcd8f38d4a2f63439b39bc47445fd84727c3fc462c843",
            "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
            "56ec37616c00220032fc7b8c9d0ef51367fd0d70d9cd6ddd841660f949f84fed",
            "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63",
            "6a44b2ed8111d2f60d2b92627c5dccda3f7ed7570b18ce115e569cd68c28246b",
            "6b0c7b9f47a5d011939d61e324d3fe18a8bc155d8dd53add738709a92f290a7c",
            "6d5114bba238adddacb32fb11904f2b3ff4e988f8e9ff0d8d3b5e9822cf836b8",
            "7ec1e1dd9b6cb335c301afdf877989df384227313981850755a59561f75e4ab8",
            "a2ee66fe8b6608e1482ab1bde5799da04705c1cb40324c7f66054ecf46ae6e40",
            "a6e845f387e4ed55bb59342957a9179e24a631fcc7668bda3426ae1cef8ed4b9",
            "c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5",
            "c5dbdb7c8737cd183a9dce95b39cfd1f3d54ec2a27a1bb58f160293f9ba2c805",
            "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
            "db5c8df7145c21ffea9c0f74e38823bac3af60cbadf0e26b8633f08627b17bab",
            "dd6f4f93ddf8a668c73f0945f3638444b2140a4e15a3912067493fc6335543e4",
            "ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375",
            "eeb92051c2123b9730c46b04cc843cfa4bc7d7b0aec56df431a2215ef4cb0273",
        ),
    ),
}


def locked(requirements: Iterable[str]) -> list[str]:
    """The requirements and all that they need, with hashes; [] where one of them is not ours."""
    found: dict[str, str] = {}
    waiting = [_normal(line) for line in requirements]
    while waiting:
        pin = waiting.pop()
        if pin not in LOCKED:
            return []
        needs, hashes = LOCKED[pin]
        found[pin] = " ".join([pin, *(f"--hash=sha256:{one}" for one in hashes)])
        waiting += [need for need in needs if need not in found]
    return [found[pin] for pin in sorted(found)]


def _normal(requirement: str) -> str:
    """A requirement with its name as indexes compare it."""
    name, equals, version = requirement.strip().partition("==")
    return re.sub(r"[-_.]+", "-", name).lower() + equals + version
