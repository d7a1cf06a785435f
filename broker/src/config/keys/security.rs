//! TLS, SASL, authorization, delegation tokens (configs.md §3.6, security.md §2.1 and §3).

use super::{Key, Valid, boolean, class, double, int, list, long, password, short, string};

const STANDARD_AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
const PRINCIPAL_BUILDER: &str =
    "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder";
const NO_CLASSES: &str = "classes cannot be loaded, and what this one would check would be \
                          missed in silence; remove the key";
const NO_TOKENS: &str = "delegation tokens are not built; remove the key";
const NO_REAUTH: &str = "re-authentication (KIP-368) is not built, so sessions would outlive \
                         this bound; remove the key or set 0";
const NO_SLACK: &str = "certificates cannot be replaced at run time yet, so there is nothing to \
                        allow; remove the key";

pub(super) const KEYS: &[Key] = &[
    string("ssl.protocol")
        .or("TLSv1.3")
        .one_of(&["TLSv1.3", "TLSv1.2", "TLS"])
        .per_broker()
        .per_listener()
        .effect(),
    list("ssl.enabled.protocols")
        .or("TLSv1.2,TLSv1.3")
        .one_of(&["TLSv1.2", "TLSv1.3"])
        .per_broker()
        .per_listener()
        .effect(),
    list("ssl.cipher.suites")
        .or("")
        .per_broker()
        .per_listener()
        .effect(),
    string("ssl.client.auth")
        .or("none")
        .one_of(&["required", "requested", "none"])
        .per_broker()
        .per_listener()
        .effect(),
    string("ssl.endpoint.identification.algorithm")
        .or("https")
        .one_of(&["https", "HTTPS", ""])
        .per_broker()
        .per_listener(),
    string("ssl.keystore.type")
        .or("JKS")
        .one_of(&["JKS", "PKCS12", "PEM"])
        .per_broker()
        .per_listener()
        .effect(),
    string("ssl.truststore.type")
        .or("JKS")
        .one_of(&["JKS", "PKCS12", "PEM"])
        .per_broker()
        .per_listener()
        .effect(),
    string("ssl.keystore.location")
        .per_broker()
        .per_listener()
        .effect(),
    string("ssl.truststore.location")
        .per_broker()
        .per_listener()
        .effect(),
    password("ssl.keystore.password")
        .per_broker()
        .per_listener()
        .effect(),
    password("ssl.key.password")
        .per_broker()
        .per_listener()
        .effect(),
    password("ssl.truststore.password")
        .per_broker()
        .per_listener()
        .effect(),
    password("ssl.keystore.key")
        .per_broker()
        .per_listener()
        .effect(),
    password("ssl.keystore.certificate.chain")
        .per_broker()
        .per_listener()
        .effect(),
    password("ssl.truststore.certificates")
        .per_broker()
        .per_listener()
        .effect(),
    string("ssl.provider").per_broker().per_listener(),
    string("ssl.keymanager.algorithm")
        .or("SunX509")
        .per_broker()
        .per_listener(),
    string("ssl.trustmanager.algorithm")
        .or("PKIX")
        .per_broker()
        .per_listener(),
    string("ssl.secure.random.implementation")
        .per_broker()
        .per_listener(),
    class("ssl.engine.factory.class")
        .per_broker()
        .per_listener(),
    string("ssl.principal.mapping.rules")
        .or("DEFAULT")
        .per_listener()
        .effect(),
    boolean("ssl.allow.dn.changes")
        .or("false")
        .per_listener()
        .refused(&["false"], NO_SLACK),
    boolean("ssl.allow.san.changes")
        .or("false")
        .per_listener()
        .refused(&["false"], NO_SLACK),
    class("principal.builder.class")
        .or(PRINCIPAL_BUILDER)
        .per_broker()
        .per_listener()
        .refused(&[], NO_CLASSES),
    // Kafka's default, GSSAPI, is not spoken here.
    list("sasl.enabled.mechanisms")
        .or("SCRAM-SHA-512,SCRAM-SHA-256")
        .per_broker()
        .per_listener()
        .effect(),
    string("sasl.mechanism.inter.broker.protocol")
        .or("SCRAM-SHA-512")
        .per_broker()
        .effect(),
    string("sasl.mechanism.controller.protocol").or("SCRAM-SHA-512"),
    password("sasl.jaas.config")
        .per_broker()
        .per_mechanism()
        .effect(),
    class("sasl.login.callback.handler.class").per_mechanism(),
    class("sasl.login.class").per_mechanism(),
    class("sasl.server.callback.handler.class")
        .per_mechanism()
        .refused(&[], NO_CLASSES),
    class("sasl.client.callback.handler.class"),
    double("sasl.login.refresh.window.factor")
        .or("0.8")
        .per_broker(),
    double("sasl.login.refresh.window.jitter")
        .or("0.05")
        .per_broker(),
    short("sasl.login.refresh.min.period.seconds")
        .or("60")
        .per_broker(),
    short("sasl.login.refresh.buffer.seconds")
        .or("300")
        .per_broker(),
    int("sasl.login.connect.timeout.ms"),
    int("sasl.login.read.timeout.ms"),
    long("sasl.login.retry.backoff.ms").or("100"),
    long("sasl.login.retry.backoff.max.ms").or("10000"),
    string("sasl.kerberos.service.name").per_broker(),
    string("sasl.kerberos.kinit.cmd")
        .or("/usr/bin/kinit")
        .per_broker(),
    list("sasl.kerberos.principal.to.local.rules")
        .or("DEFAULT")
        .per_broker(),
    long("sasl.kerberos.min.time.before.relogin")
        .or("60000")
        .per_broker(),
    double("sasl.kerberos.ticket.renew.window.factor")
        .or("0.8")
        .per_broker(),
    double("sasl.kerberos.ticket.renew.jitter")
        .or("0.05")
        .per_broker(),
    int("sasl.server.max.receive.size")
        .or("524288")
        .min(1)
        .effect(),
    long("connections.max.reauth.ms")
        .or("0")
        .per_mechanism()
        .refused(&["0"], NO_REAUTH),
    string("sasl.oauthbearer.jwks.endpoint.url").per_mechanism(),
    string("sasl.oauthbearer.token.endpoint.url").per_mechanism(),
    string("sasl.oauthbearer.expected.issuer").per_mechanism(),
    list("sasl.oauthbearer.expected.audience")
        .or("")
        .per_mechanism(),
    string("sasl.oauthbearer.scope.claim.name")
        .or("scope")
        .per_mechanism(),
    string("sasl.oauthbearer.sub.claim.name")
        .or("sub")
        .per_mechanism(),
    int("sasl.oauthbearer.clock.skew.seconds")
        .or("30")
        .per_mechanism(),
    long("sasl.oauthbearer.jwks.endpoint.refresh.ms")
        .or("3600000")
        .per_mechanism(),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms")
        .or("100")
        .per_mechanism(),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms")
        .or("10000")
        .per_mechanism(),
    class("sasl.oauthbearer.jwt.retriever.class")
        .or("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"),
    class("sasl.oauthbearer.jwt.validator.class")
        .or("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"),
    string("sasl.oauthbearer.scope"),
    string("sasl.oauthbearer.client.credentials.client.id"),
    password("sasl.oauthbearer.client.credentials.client.secret"),
    password("sasl.oauthbearer.assertion.private.key.passphrase"),
    string("sasl.oauthbearer.assertion.file"),
    string("sasl.oauthbearer.assertion.template.file"),
    string("sasl.oauthbearer.assertion.private.key.file"),
    string("sasl.oauthbearer.assertion.claim.aud"),
    string("sasl.oauthbearer.assertion.claim.iss"),
    string("sasl.oauthbearer.assertion.claim.sub"),
    string("sasl.oauthbearer.assertion.algorithm")
        .or("RS256")
        .valid(Valid::OneOfAnyCase(&["ES256", "RS256"])),
    int("sasl.oauthbearer.assertion.claim.exp.seconds")
        .or("300")
        .within(0, 86_400),
    int("sasl.oauthbearer.assertion.claim.nbf.seconds")
        .or("60")
        .within(0, 3600),
    boolean("sasl.oauthbearer.assertion.claim.jti.include").or("false"),
    // Kafka's default is no authorizer at all, which lets everybody do everything.
    string("authorizer.class.name")
        .or(STANDARD_AUTHORIZER)
        .effect(),
    string("super.users").or("").effect(),
    boolean("allow.everyone.if.no.acl.found")
        .or("false")
        .effect(),
    password("delegation.token.secret.key").refused(&[], NO_TOKENS),
    long("delegation.token.max.lifetime.ms")
        .or("604800000")
        .min(1),
    long("delegation.token.expiry.time.ms")
        .or("86400000")
        .min(1),
    long("delegation.token.expiry.check.interval.ms")
        .or("3600000")
        .min(1),
];
