"""ServiceAccount tokens: asked for, used, reviewed, expired, outlived by what they were bound to; certificates too."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from labctl.kube.errors import Unauthorized
from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.loop import wait_for
from master.apiserver.authn import Authenticator, bearer
from master.apiserver.tokens import ISSUER, PROJECTED_S, Tokens
from tests.unit.master.apiserver.harness import Answer, Api
from tests.unit.master.apiserver.objects import PODS, pod

Document = dict[str, Any]

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
TOKEN = f"{ACCOUNTS}/robot/token"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def write_key(folder: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    path = folder / "sa.key"
    path.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    return str(path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now=SystemClock().now())


@pytest.fixture(params=["ES256", "RS256"])
def signing(request: pytest.FixtureRequest, api: Api, tmp_path: Path, clock: FakeClock) -> Api:
    """An API server that signs, on a clock that the test moves, and the account `robot`."""
    key = ec.generate_private_key(ec.SECP256R1())
    path = write_key(tmp_path, key if request.param == "ES256" else rsa.generate_private_key(65537, 2048))
    context = api.server.context
    tokens = Tokens(path, context.storage, context.registry, clock)
    for name, value in (("tokens", tokens), ("clock", clock)):
        object.__setattr__(context, name, value)
    api.server._authenticator = Authenticator(tokens, clock)
    api.create(ACCOUNTS, {"metadata": {"name": "robot"}})
    return api


def asked(api: Api, **spec: Any) -> str:
    """A token for `robot`."""
    return str(api.create(TOKEN, {"spec": spec})["status"]["token"])


def bearing(api: Api, token: str) -> Api:
    return api.nobody().sending({"HTTP_AUTHORIZATION": f"Bearer {token}"})


def used(api: Api, token: str) -> Answer:
    """What a request to know oneself answers."""
    return bearing(api, token).post(WHOAMI, {})


def ended(api: Api, token: str) -> None:
    """The token is refused, as soon as the watch caches have seen why."""
    wait_for(lambda: used(api, token).code == 401, what="a refusal", deadline_s=5, clock=SystemClock(), every_s=0.01)


def bound_to_pod(api: Api) -> Document:
    made = api.create(PODS, pod("p", node="n1", serviceAccountName="robot"))
    return {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]}


def test_a_token_makes_its_bearer_the_account(signing: Api) -> None:
    answer = used(signing, asked(signing))
    assert answer.code == 201
    found = answer.document["status"]["userInfo"]
    uid = signing.get(f"{ACCOUNTS}/robot").document["metadata"]["uid"]
    assert (found["username"], found["uid"]) == ("system:serviceaccount:default:robot", uid)
    assert found["groups"] == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    assert found["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
    assert bearing(signing, asked(signing)).get(PODS).code == 403


def test_its_claims_are_upstreams(signing: Api, clock: FakeClock) -> None:
    signing.create("/api/v1/nodes", {"metadata": {"name": "n1"}})
    ref = bound_to_pod(signing)
    token = asked(signing, boundObjectRef=ref, audiences=["lab"], expirationSeconds=600)
    claims = jwt.decode(token, options={"verify_signature": False})
    about = claims["kubernetes.io"]
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, ["lab"], "system:serviceaccount:default:robot")
    assert claims["exp"] - claims["iat"] == 600
    assert claims["nbf"] == claims["iat"] == int(clock.now().timestamp())
    assert (about["namespace"], about["serviceaccount"]["name"]) == ("default", "robot")
    assert about["pod"] == {"name": "p", "uid": ref["uid"]}
    assert about["node"] == {"name": "n1", "uid": signing.get("/api/v1/nodes/n1").document["metadata"]["uid"]}
    assert jwt.get_unverified_header(token)["kid"]


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ({"expirationSeconds": 599}, 422, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": (1 << 32) + 1}, 422, "may not specify a duration larger than 2^32 seconds"),
        ({"expirationSeconds": "long"}, 400, "TokenRequest"),
        ({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}, 404, 'pods "none" not found'),
        (
            {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "m"}},
            400,
            "cannot bind token to object",
        ),
    ],
)
def test_what_cannot_be_granted_is_refused(signing: Api, spec: Document, code: int, words: str) -> None:
    answer = signing.post(TOKEN, {"spec": spec})
    assert (answer.code, words in answer.message) == (code, True)


def test_a_token_is_bound_to_a_pod_of_its_account_alone(signing: Api) -> None:
    other = signing.create(PODS, pod("q", serviceAccountName="else"))["metadata"]["uid"]
    wrong = {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": other}
    assert signing.post(TOKEN, {"spec": {"boundObjectRef": wrong}}).code == 400
    ref = bound_to_pod(signing) | {"uid": "another"}
    assert signing.post(TOKEN, {"spec": {"boundObjectRef": ref}}).code == 409


def test_an_expired_token_is_unauthorized(signing: Api, clock: FakeClock) -> None:
    token = asked(signing, expirationSeconds=600)
    clock.advance(600)
    assert used(signing, token).code == 201  # within the leeway for clocks that differ
    clock.advance(61)
    refused = used(signing, token)
    assert (refused.code, refused.message) == (401, "Unauthorized")


@pytest.mark.parametrize("damage", ["x.y.z", "", "abc", "{}", "signature", "issuer", "algorithm"])
def test_a_token_that_nobody_issued_is_unauthorized(signing: Api, damage: str) -> None:
    token = asked(signing)
    claims = jwt.decode(token, options={"verify_signature": False})
    key = ec.generate_private_key(ec.SECP256R1())
    if damage == "signature":
        token = jwt.encode(claims, key, algorithm="ES256")
    elif damage == "issuer":
        token = jwt.encode({**claims, "iss": "https://evil"}, key, algorithm="ES256")
    elif damage == "algorithm":
        token = jwt.encode(claims, "", algorithm="none")
    else:
        token = damage
    expected = 401 if token else 403  # an empty one is none: the request is nobody's
    assert bearing(signing, token).get(PODS).code == expected


def test_a_token_ends_with_what_it_is_bound_to(signing: Api) -> None:
    secrets = "/api/v1/namespaces/default/secrets"
    uid = signing.create(secrets, {"metadata": {"name": "s"}})["metadata"]["uid"]
    by_secret = asked(signing, boundObjectRef={"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": uid})
    by_pod = asked(signing, boundObjectRef=bound_to_pod(signing))
    plain = asked(signing)
    assert [used(signing, token).code for token in (by_secret, by_pod, plain)] == [201, 201, 201]
    signing.delete(f"{secrets}/s")
    ended(signing, by_secret)
    assert [used(signing, token).code for token in (by_pod, plain)] == [201, 201]
    signing.delete(f"{PODS}/p?gracePeriodSeconds=0")
    ended(signing, by_pod)
    assert used(signing, plain).code == 201
    signing.delete(f"{ACCOUNTS}/robot")
    ended(signing, plain)
    signing.create(ACCOUNTS, {"metadata": {"name": "robot"}})
    assert used(signing, plain).code == 401  # the name is the same, the account is another


def test_a_token_for_another_audience_is_not_for_us(signing: Api) -> None:
    token = asked(signing, audiences=["vault"])
    assert used(signing, token).code == 401
    ours = signing.create(REVIEWS, {"spec": {"token": token}})["status"]
    assert not ours.get("authenticated")
    theirs = signing.create(REVIEWS, {"spec": {"token": token, "audiences": ["vault", "x"]}})["status"]
    assert (theirs["authenticated"], theirs["audiences"]) == (True, ["vault"])
    assert theirs["user"]["username"] == "system:serviceaccount:default:robot"
    assert signing.post(REVIEWS, {"spec": {}}).code == 400


def test_a_pods_own_token_outlives_programs_that_read_it_once(signing: Api, clock: FakeClock) -> None:
    ref = bound_to_pod(signing)
    answer = signing.create(TOKEN, {"spec": {"boundObjectRef": ref, "expirationSeconds": PROJECTED_S}})
    claims = jwt.decode(answer["status"]["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 365 * 24 * 3600
    assert claims["kubernetes.io"]["warnafter"] - claims["iat"] == PROJECTED_S
    shown = clock.now() + timedelta(seconds=PROJECTED_S)
    assert answer["status"]["expirationTimestamp"] == shown.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_anybody_who_is_allowed_can_check_tokens_offline(signing: Api) -> None:
    token = asked(signing, audiences=["vault"])
    about = signing.get("/.well-known/openid-configuration").document
    assert about["issuer"] == ISSUER
    keys = jwt.PyJWKSet.from_dict(signing.get("/openid/v1/jwks").document)
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=about["id_token_signing_alg_values_supported"], audience="vault")
    assert claims["sub"] == "system:serviceaccount:default:robot"
    assert bearing(signing, asked(signing)).get("/openid/v1/jwks").code == 200
    assert signing.nobody().get("/openid/v1/jwks").code == 403


def test_a_node_asks_on_behalf_of_its_pods_alone(signing: Api) -> None:
    for name in ("n1", "n2"):
        signing.create("/api/v1/nodes", {"metadata": {"name": name}})
    volume = {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}}
    plain = {"name": "w", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
    made = signing.create(PODS, pod("p", node="n1", serviceAccountName="robot", volumes=[volume, plain]))
    ref = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]}
    n1, n2 = (signing.as_user(f"system:node:{name}", "system:nodes") for name in ("n1", "n2"))
    assert n1.post(TOKEN, {"spec": {"boundObjectRef": ref}}).code == 201
    assert n1.post(TOKEN, {"spec": {"boundObjectRef": ref, "audiences": ["vault"]}}).code == 201
    assert n2.post(TOKEN, {"spec": {"boundObjectRef": ref}}).code == 403
    for spec, words in (
        ({}, "node requested token not bound to a pod"),
        ({"boundObjectRef": {**ref, "uid": ""}}, "node requested token with a pod binding without a uid"),
        ({"boundObjectRef": {**ref, "uid": "x"}}, "does not match the UID in record"),
        ({"boundObjectRef": ref, "audiences": ["bank"]}, 'not authorized to request tokens for audience "bank"'),
    ):
        answer = n1.post(TOKEN, {"spec": spec})
        assert (answer.code, words in answer.message) == (403, True)


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Bearer", ""), ("Basic abc", ""), ("", "")],
)
def test_a_token_is_read_from_its_header(header: str, token: str) -> None:
    assert bearer(header) == token


class Shown:
    """A connection that shows a certificate with dates."""

    def __init__(self, begins: str, ends: str) -> None:
        self._certificate = {"subject": ((("commonName", "ada"),),), "notBefore": begins, "notAfter": ends}

    def getpeercert(self, binary_form: bool = False) -> Any:
        return b"" if binary_form else self._certificate


def test_a_certificate_counts_while_it_is_valid(signing: Api) -> None:
    clock = FakeClock(now=SystemClock().now().replace(year=2030))
    authenticator = Authenticator(signing.server.context.tokens, clock)
    good = Shown("Jan  1 00:00:00 2030 GMT", "Jan  1 00:00:00 2032 GMT")
    late = Shown("Jan  1 00:00:00 2028 GMT", "Jan  1 00:00:00 2029 GMT")
    assert authenticator.user(good).name == "ada"
    with pytest.raises(Unauthorized):
        authenticator.user(late)
    clock.advance(3 * 365 * 24 * 3600.0)
    with pytest.raises(Unauthorized):
        authenticator.user(good)


def test_a_good_certificate_counts_before_a_token(signing: Api) -> None:
    both = signing.sending({"HTTP_AUTHORIZATION": f"Bearer {asked(signing)}"})
    assert both.create(WHOAMI, {})["status"]["userInfo"]["username"] == "kubernetes-admin"
    wrong = signing.sending({"HTTP_AUTHORIZATION": "Bearer x.y.z"})
    assert wrong.get(PODS).code == 200


def test_a_token_counts_against_no_quota(signing: Api) -> None:
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"count/serviceaccounts": "1"}}}
    signing.create("/api/v1/namespaces/default/resourcequotas", quota)
    assert signing.post(TOKEN, {"spec": {}}).code == 201
    assert signing.post(TOKEN, {"spec": {}}).code == 201
