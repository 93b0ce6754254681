package main

import (
	"debug/elf"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// buildAsShipped builds the program with the very command of the Dockerfile.
func buildAsShipped(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "gatehouse")
	build := dockerfile(t, `RUN (.* go build .*)`)[0]
	const out = "-o /gatehouse "
	if !strings.Contains(build, out) {
		t.Fatalf("Dockerfile builds with %q: want %q in it", build, out)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(build, out, "-o '"+bin+"' ", 1))
	cmd.Dir = root(t)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, text)
	}
	return bin
}

// dockerfile is what the groups of a pattern hold on its line of the
// Dockerfile. Only the last line that matches counts, as it does in an image.
func dockerfile(t *testing.T, pattern string) []string {
	t.Helper()
	lines := regexp.MustCompile(`(?m)^`+pattern+`$`).FindAllStringSubmatch(readFile(t, filepath.Join(root(t), "Dockerfile")), -1)
	if len(lines) == 0 {
		t.Fatalf("Dockerfile has no line such as %q", pattern)
	}
	return lines[len(lines)-1][1:]
}

// testContainer runs the program where an image from scratch would: a root
// folder with nothing in it but what the Dockerfile copies, as another user.
func testContainer(t *testing.T, bin string) {
	if os.Getuid() != 0 {
		t.Skip("only root may change the root folder: run as root")
	}
	if file, err := elf.Open(bin); err != nil {
		t.Fatal(err)
	} else {
		for _, part := range file.Progs {
			if part.Type == elf.PT_INTERP {
				t.Error("the program wants a dynamic linker, which an empty image does not have")
			}
		}
		file.Close()
	}
	for _, want := range []string{
		`COPY --from=build /gatehouse /gatehouse`,
		`COPY --from=build --chown=65532:65532 /data /data`,
		`COPY gateway\.yaml /gateway\.yaml`,
		`COPY --from=build /etc/ssl/certs/ca-certificates\.crt /etc/ssl/certs/ca-certificates\.crt`,
		`VOLUME /data`,
		`WORKDIR /`,
		`ENTRYPOINT \["/gatehouse"\]`,
		`FROM scratch`,
	} {
		dockerfile(t, want)
	}
	user := dockerfile(t, `USER (\d+):(\d+)`)
	uid, gid := number(t, user[0]), number(t, user[1])
	var health []string
	if err := json.Unmarshal([]byte(dockerfile(t, `HEALTHCHECK .*CMD (\[.*\])`)[0]), &health); err != nil {
		t.Fatal(err)
	}

	image := t.TempDir()
	program, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(image, "gatehouse"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 2)
	config := filepath.Join(image, "gateway.yaml")
	writeFile(t, config, readFile(t, filepath.Join(root(t), "gateway.yaml")))
	setPorts(t, config, ports[0], ports[1])
	data := filepath.Join(image, "data")
	for _, err := range []error{
		os.Chmod(config, 0o444), os.Mkdir(data, 0o700), os.Chown(data, uid, gid), os.Chmod(image, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	inside := func() *syscall.SysProcAttr {
		return &syscall.SysProcAttr{Chroot: image, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}

	gw := &liveGateway{process: startIn(t, "/", inside(), "/gatehouse"), url: "http://127.0.0.1:" + ports[0], client: plainClient()}
	gw.awaitAnswer(t, "http://127.0.0.1:"+ports[1]+"/readyz")

	ann := gw.register(t, "ann@example.com")
	if got := ann.want(t, 200, "GET", "/hello", ""); !strings.Contains(got.body, "ann@example.com") {
		t.Errorf("the echo app does not see who is calling: %s", got.body)
	}
	ann.want(t, 403, "GET", "/admin/", "").wantError(t, "forbidden")
	gw.visitor().want(t, 401, "GET", "/hello", "").wantError(t, "missing_token")
	gw.visitor().want(t, 200, "GET", "/public", "")

	check := exec.CommandContext(t.Context(), health[0], health[1:]...)
	check.Dir, check.SysProcAttr = "/", inside()
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", health, err, out)
	}
	ann.want(t, 204, "POST", "/logout", "{}", "Content-Type: application/json")
	ann.want(t, 401, "GET", "/hello", "").wantError(t, "invalid_token")

	files := 0
	err = filepath.WalkDir(image, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, image)
		if !strings.HasPrefix(name, "/data") {
			if name != "" && name != "/gatehouse" && name != "/gateway.yaml" {
				t.Errorf("%s was made outside /data", name)
			}
			return nil
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		owner := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != want || int(owner.Uid) != uid {
			t.Errorf("%s has mode %o and owner %d, want %o and %d", name, info.Mode().Perm(), owner.Uid, want, uid)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 2 {
		t.Errorf("%d files in /data, want a database and a key", files)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
