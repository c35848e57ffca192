"""Password fields. The vectors were made by `doveadm pw` for the password "secret" (user "user"), the last ones by libcrypt."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from mailserver.auth import passwords
from mailserver.auth.hmacmd5 import cram_md5_contexts
from mailserver.auth.passwords import BadField, WeakScheme, verify

VECTORS = """
{PLAIN}secret
{CLEAR}secret
{CLEARTEXT}secret
{CRYPT}$2y$05$rxQrI/R2Xb.6dr3Nt7AT1u/ayzTPQ10V8HAsDa349EeuEaw4owoLe
{BLF-CRYPT}$2y$05$osiHo6Ro1DP8kmWaM1ihYOu4Qg3ufuqs0ABFz..9hyBdze/9/hDGW
{SHA256-CRYPT}$5$Rbp4sYz/69OZG393$/YbRKR2cfsqrbzBKaCODad/UVlMshWeyG02WFYUBo75
{SHA512-CRYPT}$6$QwADOh93Z/xUuTZp$83WmnWH.waAQYmPMj9KU3TG0yfHGEFfGl7rpmIVh70QFGpUTWAM61tb/EAOErsi9G8vUQ6uttgluPtm4Hbp1l1
{MD5-CRYPT}$1$r7E3AWtS$AsBawN4nc/r9L7GMGrCrj0
{DES-CRYPT}Vv26XvKQMj5Ks
{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=
{SHA1}5en6G6MezRroT3XKqkdPOmY/BfQ=
{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=
{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==
{SSHA}L4QHPOj+tBlkqL97qwc77vHhGgECZCF+
{SSHA256}+Qu8VBfySLdW3Hbe3etvZLCFo6MhsxE8+d2OXc4gVC2ytakO
{SSHA512}dKGvceu/D2f2iWc5T5iaQ/5w+4ui1AVcvIkzL/Qkyc4k7IG+55utMSMO4cpgeN4v+adMvTrpa4+2LHVpppPna7baYCY=
{SMD5}EU/I9T0j9JjdJ9cxpfDiHiydlqg=
{LDAP-MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==
{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69
{PLAIN-MD4}67d3dafef63ff00603aeef3769cfbf0d
{CRAM-MD5}cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56
{HMAC-MD5}cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56
{DIGEST-MD5}20b4b61d3f0126b9aac227a68dbe3e26
{SCRAM-SHA-1}4096,V4N5g16uiQ/LIuEqPDBuOw==,stttVSdcot1pRt8dlXmCmqFTpbE=,fYw7mdSGXCFz6gxsyW42Sv3CFTQ=
{SCRAM-SHA-256}4096,0E09cHk7ktIcV7moVk18uQ==,VurpI4QSFLwRq1BFvNWCvow0wHNMVuHE3ONaS+AJim0=,lWjly/8J7GKCO5bIxapCXA20lYmle8zFMkOyPbWl8JA=
{PBKDF2}$1$NRT5Y58wOZur4lPp$5000$7b5b006a82af5fb98408bc3b62a496aea2481d10
{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$SGkyFmSVIZZ1dkFill+1uA$+U3xHz1Udu3TUEh2uI1wSCFiqSANHhOeWjWS5dKuX0s
{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$arK72RLYx0uMB9PzkBg7hg$3mcsWl5lFHgHk8UYz5vrBZTol9hyF0vgNG2u7mb7798
{SHA256.HEX}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
{SSHA.B64}MMGjnrXhxSP5ECv/QJsB4w+m4YVA5MD0
{PLAIN.B64}c2VjcmV0
{SHA512.HEX}bd2b1aaf7ef4f09be9f52ce2d8d599674d81aa9d6a4421696dc4d93dd0619d682ce56b4d64a9ef097761ced99e0f67265b5f76085e5b0ee7ca4696b2ad6fe2b2
{SHA256.BASE64}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=
{PLAIN-MD5.B64}Xr4ilOzQ4PCOq3aQ0qbuaQ==
{CRAM-MD5.B64}zTun3qrW5cojRIukLjeXR6ng9/H7wAyKgbuqw5VzG1Y=
{SSHA256.HEX}24e31eadc075d42be70522e8ca2f4a81f1ec89459303a0c1c7336d2d9e38597341d42a02
$argon2id$v=19$m=65536,t=3,p=1$AOUO1pqulCaGIPF03uwbNg$awsfyAWDKaWcvAn77P53oosxjIPJlNOt8i8H9cAXM5M
$6$R8ltpMf3qbBqKU2T$AUS6pMHXlV93kgrkZXqc9u4Qgdto9JIYevUuag3x9eU/wZm42DXfVaB47n5bJ6YB/IdkB0IEXHBQ1EJIOU17//
$y$j9T$k2XAnEHBqQ1Ct2aMXFKNa/HAmA1BpMnBsYHMWB4NZN4$h0St5STpahXaP5PeOEAlzD7.r8nVuT2/ycfr/tjHfz/
$gy$j9T$k2XAnEHBqQ1Ct2aMXFKNa/HAmA1BpMnBsYHMWB4NZN4$MJ6JAjRHwqXCYXi9awzXPaQaCzg3dXjaLHwrDQn7UyC
$7$CU..../....k2XAnEHBqQ1Ct2aMXFKNa/HAmA1BpMnBsYHMWB4NZN4$mF9yVQvZyzmMxek.nkd88NglE89ib0rT92RboA8XpY9
""".split()  # noqa: SIM905  # one a line, as a file would have them

DAMAGED = [
    "{NOSUCH}secret",
    "{SHA256}short",
    "{SHA256.rot13}abc",
    "{SHA256}!!!!",
    "{SSHA}AAAA",
    "{PBKDF2}$1$salt$many$hash",
    "{PBKDF2}$2$salt$1$00",
    "{PBKDF2}$1$salt$99999999999$00",
    "{SCRAM-SHA-256}4096,x",
    "{SCRAM-SHA-256}99999999999,n0EExz8w1Qjk23o/iuHXQg==,AAAA,AAAA",
    "{ARGON2ID}$argon2id$damaged",
    "{BLF-CRYPT}$2y$05$short",
    "{SHA512-CRYPT}$6$rounds=x$y",
    "{PLAIN-MD4.hex}zz",
    "{PLAIN.hex}zz",
    "",
    "!",
    "*",
    "$y$damaged",
    "$nosuch$abc",
]


@pytest.mark.parametrize("field", VECTORS)
def test_dovecots_fields(field: str) -> None:
    assert verify(field, b"secret", "user", allow_weak=True)
    assert not verify(field, b"Secret", "user", allow_weak=True)
    assert not verify(field, b"", "user", allow_weak=True)


@pytest.mark.parametrize("field", DAMAGED)
def test_damaged_fields(field: str) -> None:
    with pytest.raises(BadField):
        verify(field, b"secret", allow_weak=True)


@pytest.mark.parametrize("field", [vector for vector in VECTORS if passwords.split_field(vector)[0] in passwords.WEAK])
def test_weak_schemes_need_a_setting(field: str) -> None:
    with pytest.raises(WeakScheme, match="allow_weak_schemes"):
        verify(field, b"secret", "user")


def test_weak_crypt_without_a_prefix() -> None:
    for field in ("$1$HPXQBAZj$UIFrdtVTB1Z88nBXQffGz1", "CdMwZIQyXq4Hk"):
        with pytest.raises(WeakScheme):
            verify(field, b"secret")
        assert verify(field, b"secret", allow_weak=True)


def test_new_passwords() -> None:
    field = passwords.hash_new("pässword".encode())
    assert field.startswith("{ARGON2ID}$argon2id$")
    assert verify(field, "pässword".encode())
    assert not verify(field, b"password")


def test_case_of_the_scheme_does_not_matter() -> None:
    assert verify("{ssha.B64}uSvLPDNE36g9X9AqWCCQot+/W6HPOYgI", b"secret")
    assert verify("{Plain}secret", b"secret")


@pytest.mark.parametrize("field", ["$2y$05$gkV91dRR6dafIgsrgBfOUOORkDumGMtzzZTAx5Ew3fugpvXAAmsOK", "{PLAIN}secret"])
@pytest.mark.parametrize("password", [b"x" * 73, b"x" * 100_000, b"secret\0", b"\xff\xfe", b"\0"])
def test_odd_passwords_are_just_wrong(field: str, password: bytes) -> None:
    assert not verify(field, password)


def test_cram_md5_of_a_long_password() -> None:
    assert len(cram_md5_contexts(b"x" * 200)) == 32


def test_cleartext_of() -> None:
    assert passwords.cleartext_of("{PLAIN}secret") == b"secret"
    assert passwords.cleartext_of("{CLEARTEXT.b64}c2VjcmV0") == b"secret"
    assert passwords.cleartext_of("{SHA}x") is None


@pytest.mark.skipif(not shutil.which("doveadm"), reason="needs doveadm")
@pytest.mark.parametrize(
    "scheme", ["SSHA512", "SHA512-CRYPT", "BLF-CRYPT", "CRAM-MD5", "SCRAM-SHA-256", "ARGON2ID", "PBKDF2"]
)
def test_fresh_fields_of_dovecot(scheme: str) -> None:
    password = "pa ss:wörd\\"
    made = subprocess.run(["doveadm", "pw", "-s", scheme, "-p", password], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip("doveadm does not run here")
    assert verify(made.stdout.strip(), password.encode(), allow_weak=True)
