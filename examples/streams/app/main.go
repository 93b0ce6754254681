// An app with a websocket and an event stream, behind the gateway. It has no
// login: who is there stands in X-Forwarded-Email.
package main

import (
	"flag"
	"fmt"
	"html"
	"log"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

const page = `<!doctype html><title>Streams</title>
<h1>Hello, %s</h1><pre id=log></pre>
<script>
const show = text => { log.textContent += text + "\n" }
const ws = new WebSocket(location.origin.replace(/^http/, "ws") + "/ws")
ws.onopen = () => ws.send("hello")
ws.onmessage = m => show("websocket: " + m.data)
ws.onclose = e => show("websocket closed: " + e.code + " " + e.reason)
new EventSource("/events").onmessage = m => show("event: " + m.data)
</script>
`

func main() {
	listen := flag.String("listen", "127.0.0.1:3000", "address to listen on: one that only the gateway reaches")
	flag.Parse()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, page, html.EscapeString(r.Header.Get("X-Forwarded-Email")))
	})
	mux.HandleFunc("GET /ws", answer)
	mux.HandleFunc("GET /events", tick)
	mux.HandleFunc("GET /events/status", tick)
	mux.HandleFunc("GET /feed", tick)
	log.Fatal(http.ListenAndServe(*listen, mux))
}

// answer sends back each message, with the name of whoever sent it.
func answer(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		reply := fmt.Appendf(nil, "%s said %s", r.Header.Get("X-Forwarded-Email"), message)
		if err := c.Write(r.Context(), kind, reply); err != nil {
			return
		}
	}
}

// tick sends an event at once and one each second, until the reader is gone.
func tick(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for n := 1; ; n++ {
		fmt.Fprintf(w, "data: %d for %s\n\n", n, r.Header.Get("X-Forwarded-Email"))
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-every.C:
		}
	}
}
