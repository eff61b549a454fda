// Package constructs holds the Go code that the pages of docs/ show beside Python code. The pages
// show the part of each file after the line "// show". The tests compile the package, using only
// the standard library.
package constructs

import (
	"bufio"
	"net"
	"strconv"
	"time"
)

// conn has the methods of gorilla's *websocket.Conn that these files use.
type conn interface {
	ReadMessage() (int, []byte, error)
	WriteMessage(int, []byte) error
	SetReadLimit(int64)
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	SetPongHandler(func(string) error)
	Close() error
}

// closeError stands in for gorilla's *websocket.CloseError.
type closeError struct{ Code int }

func (e *closeError) Error() string { return strconv.Itoa(e.Code) }

// hijacker stands in for http.Hijacker, because net/http takes a long time to compile.
type hijacker interface {
	Hijack() (net.Conn, *bufio.ReadWriter, error)
}

type client struct {
	conn conn
	send chan []byte
}

func (*client) readPump()  {}
func (*client) writePump() {}

type hub struct {
	clients              map[*client]bool
	register, unregister chan *client
	broadcast            chan []byte
}
