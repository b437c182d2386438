# A static binary in an otherwise empty image. `cargo xtask image` makes the same
# without a container daemon.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev gcc
WORKDIR /src
COPY . .
RUN rustup target add wasm32-unknown-unknown \
 && cargo build --profile image --package oaat-operator --bin oaat-operator

FROM scratch
COPY --from=build /src/target/image/oaat-operator /oaat-operator
USER 65532:65532
ENTRYPOINT ["/oaat-operator"]
CMD ["run"]
