// Package constructs has the Go that the pages of docs/ show beside the Python: from the line
// "// show" to the end of each file. The tests compile it, with the standard library alone.
package constructs

import (
	"bufio"
	"net"
	"strconv"
	"time"
)

// conn is what these files use of gorilla's *websocket.Conn.
type conn interface {
	ReadMessage() (int, []byte, error)
	WriteMessage(int, []byte) error
	SetReadLimit(int64)
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	SetPongHandler(func(string) error)
	Close() error
}

// closeError is what these files use of gorilla's *websocket.CloseError.
type closeError struct{ Code int }

func (e *closeError) Error() string { return strconv.Itoa(e.Code) }

// hijacker is http.Hijacker; net/http takes long to compile.
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
