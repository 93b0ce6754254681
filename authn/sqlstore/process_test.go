package sqlstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
)

// helperEnv makes the test binary another process with the same database.
const helperEnv = "SQLSTORE_TEST_HELPER"

func TestMain(m *testing.M) {
	if mode, url, ok := strings.Cut(os.Getenv(helperEnv), " "); ok {
		if err := help(mode, url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func help(mode, url string) error {
	ctx := context.Background()
	s, err := Open(ctx, url)
	if err != nil {
		return err
	}
	defer s.Close()
	switch mode {
	case "open":
		fmt.Println("opened")
	case "append": // for ever, telling of each entry once it is recorded
		for i := 0; ; i++ {
			r := authn.Revocation{Kind: authn.RevokeToken, ID: fmt.Sprint("h", i), Expires: time.Now().Add(time.Hour)}
			if err := s.Append(ctx, r); err != nil {
				return err
			}
			fmt.Println(r.ID)
		}
	case "create": // for as many addresses as the other process does
		for i := range rivals {
			switch err := s.CreateUser(ctx, authn.User{ID: fmt.Sprint("helper", i), Email: fmt.Sprint(i, "@example.com")}); {
			case err == nil:
				fmt.Println(i)
			case !errors.Is(err, authn.ErrUserExists):
				return err
			}
		}
	}
	return nil
}

const rivals = 100

// startHelper runs another process; it is killed when the test ends.
func startHelper(t *testing.T, mode, url string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+mode+" "+url)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

func TestRevocationSurvivesKill(t *testing.T) {
	testSurvivesKill(t, "sqlite:"+filepath.Join(t.TempDir(), "gatehouse.db"))
}

func testSurvivesKill(t *testing.T, url string) {
	cmd, out := startHelper(t, "append", url)
	var acknowledged []string
	for len(acknowledged) < 20 && out.Scan() {
		acknowledged = append(acknowledged, out.Text())
	}
	if err := cmd.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	for out.Scan() { // what it had said before it died
		acknowledged = append(acknowledged, out.Text())
	}
	if len(acknowledged) < 20 {
		t.Fatalf("the other process recorded only %d entries", len(acknowledged))
	}
	list := authn.NewRevocationList(openURL(t, url), time.Now)
	if err := list.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, id := range acknowledged {
		if err := list.Check(context.Background(), &authn.Identity{Token: id}); !errors.Is(err, authn.ErrInvalidToken) {
			t.Errorf("Check of revoked token %s after kill = %v, want ErrInvalidToken", id, err)
		}
	}
}

func TestTwoProcesses(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db")
	s := openURL(t, url)
	t.Run("what the other appends is read while waiting", func(t *testing.T) {
		_, out := startHelper(t, "append", url)
		go io.Copy(io.Discard, readerOf(out))
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		entries, _, err := s.Read(ctx, "", 20*time.Second)
		if err != nil || len(entries) == 0 || entries[0].ID != "h0" {
			t.Errorf("Read = %+v, %v, want h0 first", entries, err)
		}
	})
	t.Run("an address goes to one of them", func(t *testing.T) { testRivals(t, s, url) })
}

// testRivals has another process register the same addresses.
func testRivals(t *testing.T, s *Store, url string) {
	_, out := startHelper(t, "create", url)
	mine := 0
	for i := range rivals {
		err := s.CreateUser(t.Context(), authn.User{ID: fmt.Sprint("mine", i), Email: fmt.Sprint(i, "@example.com")})
		if err == nil {
			mine++
		} else if !errors.Is(err, authn.ErrUserExists) {
			t.Fatalf("CreateUser = %v", err)
		}
	}
	theirs := 0
	for out.Scan() {
		theirs++
	}
	if mine+theirs != rivals {
		t.Errorf("created %d here and %d there, want %d together", mine, theirs, rivals)
	}
}

func readerOf(s *bufio.Scanner) io.Reader {
	r, w := io.Pipe()
	go func() {
		for s.Scan() {
			fmt.Fprintln(w, s.Text())
		}
		w.Close()
	}()
	return r
}
