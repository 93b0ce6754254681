# docker build -t gatehouse .
# docker run -p 8080:8080 -v ./gateway.yaml:/gateway.yaml:ro -v gatehouse:/data gatehouse

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /gatehouse ./cmd/gatehouse
RUN mkdir /data && chmod 0700 /data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /gatehouse /gatehouse
# The default data_dir is the folder "data" beside gateway.yaml: here /data.
COPY --from=build --chown=65532:65532 /data /data
COPY gateway.yaml /gateway.yaml
VOLUME /data
WORKDIR /
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/gatehouse", "healthcheck"]
ENTRYPOINT ["/gatehouse"]
