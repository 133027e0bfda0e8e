# Two images from one build. Neither has a shell, a user other than 65532, or anything that
# is not named here.
#
#   docker build --target gosix -t gosix .              the programs
#   docker build --target cluster -t gosix-cluster .    and what docker-compose.yml runs beside them
#
# go test ./t -run Compose carries out these instructions without a container engine. It
# knows no others than those it finds here.

FROM golang:1.26 AS build
WORKDIR /src
ENV CGO_ENABLED=0
ENV GOFLAGS=-tags=grpcnotrace
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY internal internal
COPY pkg pkg
RUN go build -trimpath -o /out/gosix/ ./cmd/gosix
RUN go build -trimpath -o /out/gosix/ ./cmd/admin
RUN go build -trimpath -pgo=cmd/gateway/gateway.pgo -o /out/gosix/ ./cmd/gateway
COPY t/fakellm t/fakellm
RUN go build -trimpath -o /out/cluster/fakellm ./t/fakellm/serve
# The etcd of go.mod, the one that the tests run against.
RUN go build -trimpath -o /out/cluster/etcd go.etcd.io/etcd/server/v3
# What volumes begin as: folders that 65532 may write to.
RUN mkdir -p /out/state/gosix /out/state/etcd

FROM scratch AS gosix
ENV PATH=/usr/local/bin
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/gosix/ /usr/local/bin/
COPY conf/run.yaml /etc/gosix/config.yaml
COPY --from=build --chown=65532:65532 /out/state/ /var/lib/
USER 65532:65532
WORKDIR /var/lib/gosix
CMD ["gosix", "run", "-c", "/etc/gosix/config.yaml"]

FROM gosix AS cluster
COPY --from=build /out/cluster/ /usr/local/bin/
